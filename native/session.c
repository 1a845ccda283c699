/*
 * Sessions with the operators of `step.mnc`, for a caller that passes numbers and addresses: onnxruntime's binding for Node.js
 * registers no operators. The library is the one that the binding has loaded, so that both share one environment.
 *
 * Functions return 0 (or NULL) where they fail; mnc_error says why. They are for one thread at a time. What is fed, and what
 * outputs are written to, must stay where it is until the run ends.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "operators.h"

#define EXPORT __attribute__((visibility("default")))
/** OrtLoggingLevel */
#define ERROR 3
#define FATAL 4

typedef struct {
  OrtSession *session;
  size_t inputs, outputs;
  /** Of this run. */
  const char **input_names, **output_names;
  OrtValue **fed, **made;
} Session;

static char error[1024];
static OrtEnv *env;
static OrtMemoryInfo *memory;
static OrtRunOptions *run_options;
static OrtCustomOpDomain *domain;
static const char *instructions;

EXPORT const char *mnc_error(void) { return error; }

static int fail(const char *text) {
  snprintf(error, sizeof error, "%s", text);
  return 0;
}

/** Whether it is an error; takes the status. */
static int failed(OrtStatus *status) {
  if (!status) return 0;
  fail(GetErrorMessage(status));
  ReleaseStatus(status);
  return 1;
}

/** `path`: of onnxruntime's library, already loaded; `version`: what it must be. The kernels' instruction set. */
EXPORT const char *mnc_open(const char *path, const char *version) {
  if (instructions) return instructions;
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  const OrtApiBase *(*base)(void) = library ? (const OrtApiBase *(*)(void))dlsym(library, "OrtGetApiBase") : NULL;
  if (!base) return fail(dlerror()), NULL;
  if (strcmp(base()->GetVersionString(), version) != 0) {
    snprintf(error, sizeof error, "%s is version %s, not %s", path, base()->GetVersionString(), version);
    return NULL;
  }
  ort = base()->GetApi(ORT_TABLE_VERSION);
  if (!ort) return fail("onnxruntime does not give its C API"), NULL;
  if (failed(CreateEnv(ERROR, "mnc", &env)) || failed(CreateCpuMemoryInfo(1, 0, &memory)) ||
      failed(CreateRunOptions(&run_options)) || failed(RunOptionsSetRunLogSeverityLevel(run_options, FATAL)) ||
      failed(make_domain(&domain)))
    return NULL;
  return instructions = choose_kernels();
}

EXPORT void *mnc_options(int threads, int level, int severity) {
  OrtSessionOptions *o = NULL;
  if (failed(CreateSessionOptions(&o))) return NULL;
  if (failed(SetIntraOpNumThreads(o, threads)) || failed(SetSessionGraphOptimizationLevel(o, level)) ||
      failed(SetSessionLogSeverityLevel(o, severity)) || failed(DisableMemPattern(o)) ||
      failed(AddCustomOpDomain(o, domain))) {
    ReleaseSessionOptions(o);
    return NULL;
  }
  return o;
}

EXPORT int mnc_option(void *options, const char *key, const char *value) {
  return !failed(AddSessionConfigEntry(options, key, value));
}

EXPORT int mnc_profile(void *options, const char *prefix) { return !failed(EnableProfiling(options, prefix)); }

EXPORT int mnc_optimized(void *options, const char *path) { return !failed(SetOptimizedModelFilePath(options, path)); }

/** Takes the options. */
EXPORT void *mnc_session(const void *model, size_t bytes, void *options, size_t inputs, size_t outputs) {
  OrtSession *inner = NULL;
  const int bad = failed(CreateSessionFromArray(env, model, bytes, options, &inner));
  ReleaseSessionOptions(options);
  if (bad) return NULL;
  Session *s = calloc(1, sizeof *s);
  if (s) {
    s->session = inner;
    s->input_names = calloc(inputs + 1, sizeof(char *));
    s->output_names = calloc(outputs + 1, sizeof(char *));
    s->fed = calloc(inputs + 1, sizeof(OrtValue *));
    s->made = calloc(outputs + 1, sizeof(OrtValue *));
  }
  if (s && s->input_names && s->output_names && s->fed && s->made) return s;
  abort();
}

static OrtValue *value(void *data, size_t bytes, int type, const int64_t *dims, size_t rank) {
  OrtValue *v = NULL;
  return failed(CreateTensorWithDataAsOrtValue(memory, data, bytes, dims, rank, type, &v)) ? NULL : v;
}

EXPORT int mnc_feed(void *session, const char *name, void *data, size_t bytes, int type, const int64_t *dims, size_t rank) {
  Session *s = session;
  OrtValue *v = value(data, bytes, type, dims, rank);
  if (!v) return 0;
  s->input_names[s->inputs] = strdup(name);
  s->fed[s->inputs++] = v;
  return 1;
}

/** `data` NULL: the engine allocates. */
EXPORT int mnc_fetch(void *session, const char *name, void *data, size_t bytes, int type, const int64_t *dims, size_t rank) {
  Session *s = session;
  OrtValue *v = data ? value(data, bytes, type, dims, rank) : NULL;
  if (data && !v) return 0;
  s->output_names[s->outputs] = strdup(name);
  s->made[s->outputs++] = v;
  return 1;
}

/** Runs with what has been fed and fetched since the last time; mnc_clear afterwards, whatever it returns. */
EXPORT int mnc_run(void *session) {
  Session *s = session;
  return !failed(Run(s->session, run_options, s->input_names, (const OrtValue *const *)s->fed, s->inputs,
                     s->output_names, s->outputs, s->made));
}

/** Of the output `i` of the run: dims into `dims` (room for 8), type * 16 + rank. */
EXPORT int mnc_output(void *session, size_t i, int64_t *dims) {
  OrtTensorTypeAndShapeInfo *info = NULL;
  size_t rank = 0;
  int type = 0;
  if (failed(GetTensorTypeAndShape(((Session *)session)->made[i], &info))) return 0;
  GetTensorElementType(info, &type);
  GetDimensionsCount(info, &rank);
  const int fits = rank <= 8 && !failed(GetDimensions(info, dims, rank));
  ReleaseTensorTypeAndShapeInfo(info);
  return fits ? type * 16 + (int)rank : fail("an output has more than 8 dimensions");
}

EXPORT int mnc_read(void *session, size_t i, void *to, size_t bytes) {
  void *data = NULL;
  if (failed(GetTensorMutableData(((Session *)session)->made[i], &data))) return 0;
  memcpy(to, data, bytes);
  return 1;
}

EXPORT void mnc_clear(void *session) {
  Session *s = session;
  for (size_t i = 0; i < s->inputs; i++) {
    ReleaseValue(s->fed[i]);
    free((char *)s->input_names[i]);
  }
  for (size_t i = 0; i < s->outputs; i++) {
    if (s->made[i]) ReleaseValue(s->made[i]);
    s->made[i] = NULL;
    free((char *)s->output_names[i]);
  }
  s->inputs = s->outputs = 0;
}

EXPORT int mnc_end_profiling(void *session) {
  OrtAllocator *allocator = NULL;
  char *path = NULL;
  if (failed(GetAllocatorWithDefaultOptions(&allocator))) return 0;
  if (failed(SessionEndProfiling(((Session *)session)->session, allocator, &path))) return 0;
  return !failed(AllocatorFree(allocator, path));
}

EXPORT void mnc_release(void *session) {
  Session *s = session;
  mnc_clear(s);
  ReleaseSession(s->session);
  free(s->input_names);
  free(s->output_names);
  free(s->fed);
  free(s->made);
  free(s);
}
