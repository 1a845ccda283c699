"""Loss curves, weights and learning rates by PyTorch, for torch.test.ts: a JSON request on stdin, JSON on stdout."""
import json
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '../../bench/torch'))
from onnx_module import Program  # noqa: E402

SIZE = 8


def rates(case):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=case['lr'])
    rest = case['steps'] - case['warmupSteps']
    L = torch.optim.lr_scheduler
    after = {
        'cosine': lambda: L.CosineAnnealingLR(optimizer, rest),
        'linear': lambda: L.LinearLR(optimizer, 1.0, 0.0, rest),
        'step': lambda: L.MultiStepLR(optimizer, [round(m * rest) for m in case['milestones']], case['gamma']),
        'constant': lambda: L.LambdaLR(optimizer, lambda _: 1.0),
    }[case['schedule']]
    if case['warmupSteps']:
        warm = L.LinearLR(optimizer, case['warmupFrom'] / case['lr'], 1.0, case['warmupSteps'])
        scheduler = L.SequentialLR(optimizer, [warm, after()], [case['warmupSteps']])
    else:
        scheduler = after()
    out = []
    for _ in range(case['steps']):
        out.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    return out


def loss_of(case, x, labels, logits, teacher):
    hard = F.cross_entropy(logits, labels, label_smoothing=case['labelSmoothing'])
    if case['loss'] == 'ce':
        return hard
    with torch.no_grad():
        target = teacher(x)
    t = case['temperature']
    s, p = F.log_softmax(logits / t, 1), F.log_softmax(target / t, 1)
    soft = {
        'kl': lambda: t * t * F.kl_div(s, p, reduction='batchmean', log_target=True),
        'reverse-kl': lambda: t * t * F.kl_div(p, s, reduction='batchmean', log_target=True),
        'mse': lambda: F.mse_loss(logits, target),
        'l1': lambda: F.l1_loss(logits, target),
    }[case['loss']]()
    return case['alpha'] * soft + (1 - case['alpha']) * hard


def curve(case, batches):
    program = Program(case['model'], batches[0][0], 'nchw', torch.float32)
    program.training = True
    teacher = None
    if case['loss'] != 'ce':
        teacher = Program(case['teacher'], batches[0][0], 'nchw', torch.float32)
        teacher.training = case['teacherBn'] == 'batch'
    parameters = list(program.parameters.values())
    wd, beta = case['weightDecay'], case['momentum']
    if case['optimizer'] == 'adamw':
        optimizer = torch.optim.AdamW(parameters, betas=(beta, 0.999), weight_decay=wd)
    else:
        optimizer = torch.optim.SGD(parameters, lr=1, momentum=beta, weight_decay=wd, nesterov=case['nesterov'])
    losses = []
    for (x, labels), lr in zip(batches, rates(case)):
        optimizer.param_groups[0]['lr'] = lr
        optimizer.zero_grad()
        loss = loss_of(case, x, labels, program(x), teacher)
        loss.backward()
        if case['clipNorm']:
            torch.nn.utils.clip_grad_norm_(parameters, case['clipNorm'])
        optimizer.step()
        losses.append(loss.item())
    tensors = {**program.parameters, **program.buffers}
    return {'losses': losses, 'tensors': {k: v.detach().flatten().tolist() for k, v in tensors.items()}}


def main():
    torch.set_num_threads(1)
    request = json.load(sys.stdin)
    batches = [
        (torch.tensor(np.array(b['x'], np.float32).reshape(-1, 1, SIZE, SIZE)), torch.tensor(b['labels']))
        for b in request['batches']
    ]
    result = {'rates': [rates(c) for c in request['cases']], 'curves': [curve(c, batches) for c in request['cases']]}
    json.dump(result, sys.stdout)


main()
