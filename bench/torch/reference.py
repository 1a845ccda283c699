#!/usr/bin/env python3
"""PyTorch eager on the same ONNX file, weights and batches: gradients, loss curves and step times to compare mnc with.

    reference.py grads MODEL --batches FILE --batch 64 --shape 3 32 32 --out GRADS.bin
    reference.py curve MODEL --batches FILE ... --lrs 0.1,0.1,... [--out WEIGHTS.bin]
    reference.py time  MODEL --batches FILE ... --steps 20 --warmup 3 --layout channels_last
    reference.py eval  MODEL --batches FILE ...                   (logits' loss and top-1, running statistics)

FILE holds batches one after another, little-endian: float32 images [batch, *shape], then int64 labels [batch].
--out receives little-endian float32 tensors; the JSON on stdout says which (name, dims, offset in elements).
With --teacher, the loss is a KL divergence (batch mean, temperature 1) against that model in inference mode.
"""
import argparse
import json
import resource
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

from onnx_module import Program


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('command', choices=['grads', 'curve', 'time', 'eval'])
    p.add_argument('model')
    p.add_argument('--batches', required=True)
    p.add_argument('--batch', type=int, default=64)
    p.add_argument('--shape', type=int, nargs='+', default=[3, 32, 32])
    p.add_argument('--layout', choices=['nchw', 'channels_last'], default='nchw')
    p.add_argument('--dtype', choices=['float32', 'float64'], default='float32', help='float64: what is exact, what noise')
    p.add_argument('--threads', type=int, default=2)
    p.add_argument('--device', default='cpu', help='cpu, cuda, ...')
    p.add_argument('--compile', action='store_true', help='torch.compile the forward pass (and with it the backward)')
    p.add_argument('--autocast', action='store_true', help='torch.autocast: float16 with a GradScaler on cuda, bfloat16 on cpu')
    p.add_argument('--loss', choices=['ce', 'kl', 'reverse-kl'], default='ce')
    p.add_argument('--teacher')
    p.add_argument('--optimizer', choices=['sgd', 'adamw'], default='sgd')
    p.add_argument('--momentum', type=float, default=0.9)
    p.add_argument('--nesterov', action='store_true')
    p.add_argument('--weight-decay', type=float, default=1e-4)
    p.add_argument('--lr', type=float, default=0.1)
    p.add_argument('--lrs', help='comma-separated, one a step (curve)')
    p.add_argument('--steps', type=int, default=20)
    p.add_argument('--warmup', type=int, default=3)
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--out')
    return p.parse_args()


def read_batches(a):
    count = int(np.prod(a.shape)) * a.batch
    size = count * 4 + a.batch * 8
    raw = np.fromfile(a.batches, np.uint8)
    if raw.size == 0 or raw.size % size:
        raise SystemExit(f'{a.batches}: {raw.size} bytes are no whole number of batches of {size} bytes')
    channels_last = a.layout == 'channels_last' and len(a.shape) == 3
    batches = []
    for at in range(0, raw.size, size):
        images = torch.from_numpy(raw[at:at + count * 4].view('<f4').reshape([a.batch, *a.shape]).copy())
        images = images.to(getattr(torch, a.dtype))
        labels = torch.from_numpy(raw[at + count * 4:at + size].copy().view('<i8'))
        images = images.contiguous(memory_format=torch.channels_last) if channels_last else images
        batches.append((images.to(a.device), labels.to(a.device)))
    return batches


def loss_function(a, example):
    """(images, labels, logits) -> scalar loss."""
    if a.loss == 'ce':
        return lambda x, labels, logits: F.cross_entropy(logits, labels)
    if not a.teacher:
        raise SystemExit(f'--loss {a.loss} needs --teacher')
    teacher = Program(a.teacher, example, a.layout, example.dtype)

    def divergence(x, labels, logits):
        with torch.no_grad():
            target = F.log_softmax(teacher(x), 1)
        student = F.log_softmax(logits, 1)
        p, q = (target, student) if a.loss == 'kl' else (student, target)
        return F.kl_div(q, p, reduction='batchmean', log_target=True)
    return divergence


def make_optimizer(a, parameters):
    if a.optimizer == 'adamw':
        return torch.optim.AdamW(parameters, lr=a.lr, weight_decay=a.weight_decay)
    return torch.optim.SGD(parameters, lr=a.lr, momentum=a.momentum, weight_decay=a.weight_decay, nesterov=a.nesterov)


def write_tensors(path, tensors):
    entries, offset = [], 0
    with open(path, 'wb') as file:
        for name, tensor in tensors.items():
            data = tensor.detach().cpu().contiguous().numpy().astype('<f4', order='C')
            file.write(data.tobytes())
            entries.append({'name': name, 'dims': list(tensor.shape), 'offset': offset})
            offset += data.size
    return entries


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    a = arguments()
    torch.manual_seed(a.seed)
    torch.set_num_threads(a.threads)
    batches = read_batches(a)
    example = batches[0][0]
    program = Program(a.model, example, a.layout, example.dtype)
    loss_of = loss_function(a, example)
    parameters = list(program.parameters.values())
    optimizer = make_optimizer(a, parameters)
    program.training = a.command != 'eval'
    forward = torch.compile(program) if a.compile else program
    cuda = a.device.startswith('cuda')
    card = torch.cuda.get_device_name() if cuda else 'cpu'
    result = {'torch': torch.__version__, 'device': card, 'compiled': a.compile, 'threads': a.threads, 'layout': a.layout,
              'batch': a.batch}

    kind = a.device.split(':')[0]
    scaler = torch.amp.GradScaler('cuda', enabled=a.autocast and cuda)

    def step(images, labels):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(kind, dtype=torch.float16 if cuda else torch.bfloat16, enabled=a.autocast):
            loss = loss_of(images, labels, forward(images))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.item()

    if a.command == 'grads':
        images, labels = batches[0]
        loss = loss_of(images, labels, program(images))
        loss.backward()
        # A parameter that the loss does not reach (dead, or behind a cut) has no gradient and is not listed.
        gradients = {k: p.grad for k, p in program.parameters.items() if p.grad is not None}
        result |= {'loss': loss.item(), 'tensors': write_tensors(a.out, gradients) if a.out else []}
    elif a.command == 'curve':
        rates = [float(r) for r in a.lrs.split(',')] if a.lrs else [a.lr] * a.steps
        losses = []
        for i, rate in enumerate(rates):
            for group in optimizer.param_groups:
                group['lr'] = rate
            losses.append(step(*batches[i % len(batches)]))
        result |= {'losses': losses}
        if a.out:
            result |= {'tensors': write_tensors(a.out, {**program.parameters, **program.buffers})}
    elif a.command == 'time':
        before, losses, seconds = peak_bytes(), [], []
        for i in range(a.warmup + a.steps):
            if i == a.warmup:
                processor = time.process_time()
            start = time.perf_counter()
            losses.append(step(*batches[i % len(batches)]))
            seconds.append(time.perf_counter() - start)
        seconds = seconds[a.warmup:]
        processor = time.process_time() - processor
        median = float(np.median(seconds))
        result |= {
            'losses': losses, 'seconds': seconds, 'processorSeconds': processor, 'medianSeconds': median, 'imagesPerSecond': a.batch / median,
            'peakBytes': torch.cuda.max_memory_allocated() if cuda else peak_bytes(), 'peakBytesBeforeTraining': before,
        }
    else:
        correct, losses = 0, []
        with torch.no_grad():
            for images, labels in batches:
                logits = program(images)
                losses.append(loss_of(images, labels, logits).item())
                correct += int((logits.argmax(1) == labels).sum())
        result |= {'losses': losses, 'top1': correct / (len(batches) * a.batch)}
    json.dump(result, sys.stdout)
    print()


if __name__ == '__main__':
    main()
