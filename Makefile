# install once, then build, test, check; `make quickstart` runs the whole pipeline on the embedded images.
BIN := node_modules/.bin

.PHONY: install build api web site package quickstart native native-package chromium swiftshader other-nodes test check lint house same-bytes bench zoo docs format clean

install: node_modules/.package-lock.json

node_modules/.package-lock.json: package.json package-lock.json
	npm ci
	@touch $@

build: dist/cli.js

dist/cli.js: node_modules/.package-lock.json $(shell find src -name '*.ts') tsconfig.json tsconfig.build.json scripts/bundle.mjs scripts/bundle-web.mjs
	npm run --silent build
	@touch $@

quickstart: build
	node dist/cli.js run models/quickstart.json --workdir build/quickstart
	node dist/cli.js compress build/quickstart/student.onnx --data embedded --max-drop 1% -o build/quickstart/small.onnx

# Debian's Chromium, in which tests look at pages (or any other that CHROMIUM names)
chromium:
	get='apt-get install -y --no-install-recommends chromium' && { $$get || { apt-get update && $$get; }; }

# A software Vulkan driver for the tests of WebGPU, out of Debian's packages; nothing is installed
SWIFTSHADER := build/swiftshader
swiftshader: $(SWIFTSHADER)/libvulkan.so.1

$(SWIFTSHADER)/libvulkan.so.1:
	mkdir -p $(SWIFTSHADER)/deb
	cd $(SWIFTSHADER)/deb && get='apt-get download chromium-common libvulkan1' && { $$get || { apt-get update && $$get; }; }
	cd $(SWIFTSHADER)/deb && for d in *.deb; do dpkg-deb -x $$d .; done
	cp $(SWIFTSHADER)/deb/usr/lib/chromium/*swiftshader* $(SWIFTSHADER)
	cp -L $(SWIFTSHADER)/deb/usr/lib/*-linux-gnu/libvulkan.so.1 $(SWIFTSHADER)
	rm -r $(SWIFTSHADER)/deb

# Other versions of Node.js for test/cli/other-nodes.test.ts, as packages of npm, where they exist for this machine
OTHER_NODES := 24.22.3 26.12.1
PLATFORM := $(shell node -p 'process.platform + "-" + process.arch')
other-nodes: $(OTHER_NODES:%=build/node-%/package.json)

build/node-%/package.json:
	npm install --silent --no-save --no-package-lock --prefix build/node-$* node-$(PLATFORM)@$*
	echo '{}' > $@

# build/native/mnc-step.so: kernels for training steps (native/), with gcc, on Linux and x86-64
NATIVE := build/native
NATIVE_FLAGS := -O3 -fPIC -fvisibility=hidden -Wall -Wextra -Wno-psabi -fno-math-errno -fno-trapping-math
native: $(NATIVE)/mnc-step.so

$(NATIVE)/mnc-step.so: $(NATIVE)/base.o $(NATIVE)/avx2.o $(NATIVE)/avx512.o $(patsubst native/%.c,$(NATIVE)/%.o,$(filter-out native/kernels.c,$(wildcard native/*.c)))
	gcc -shared -s -o $@ $^ -ldl -lm

# build/mnc-kernels-linux-x64-VERSION.tgz: the same as a package, to be installed next to mnc
native-package: native
	cp native/package.json LICENSE $(NATIVE)
	cd build && npm pack --silent ./native

$(NATIVE)/base.o: MARCH := x86-64
$(NATIVE)/avx2.o: MARCH := x86-64-v3
$(NATIVE)/avx512.o: MARCH := x86-64-v4
$(NATIVE)/base.o $(NATIVE)/avx2.o $(NATIVE)/avx512.o: native/kernels.c $(wildcard native/*.h) Makefile
	@mkdir -p $(@D)
	gcc $(NATIVE_FLAGS) -march=$(MARCH) -DKERNELS=kernels_$(basename $(@F)) -c $< -o $@

$(NATIVE)/%.o: native/%.c $(wildcard native/*.h) Makefile
	@mkdir -p $(@D)
	gcc $(NATIVE_FLAGS) -c $< -o $@

test: build
	node test/run.mjs

lint: install
	$(BIN)/biome check .
	$(BIN)/tsc --noEmit

# Rooms, what imports what, and the figures with their limits
house: install
	node scripts/house.mjs

check: lint house test

# Whether two checkouts with a build write the same bytes: make same-bytes BEFORE=DIR [AFTER=DIR]
AFTER ?= .
same-bytes: install
	node --import tsx scripts/same-bytes.ts $(BEFORE) $(AFTER)

# Needs Debian's python3-torch, python3-pil and python3-onnx, and a machine that does nothing else; about an hour.
BENCHES := gradients train-speed data kernels export files
bench: build
	for task in $(BENCHES); do node --import tsx bench/$$task.ts || exit 1; done

# docs/zoo.md: what mnc does with the models of a folder (ZOO=DIR)
ZOO ?= ../shared/zoo
zoo: install
	node --import tsx bench/zoo.ts $(ZOO)

docs: install
	npm run --silent generate

# build/site: the documents as a site, with the library's reference and the page for browsers
site: build
	node scripts/site.mjs

# build/web: the page for browsers
web: build
	node scripts/web-page.mjs

# build/mnc-VERSION.tgz: what `npm publish` gets
package: build
	node --import tsx scripts/package.ts

# docs/api.txt: the library's published interface
api: build
	node --import tsx scripts/api-report.ts

format: install
	$(BIN)/biome check --write .

clean:
	rm -rf dist build
