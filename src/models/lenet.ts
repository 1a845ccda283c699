/**
 * LeNet-5 (LeCun et al. 1998) as it is built today: ReLU and max pooling, the first convolution padded by 2 so that
 * 28x28 images fit. 61,706 parameters for 28x28x1 and 10 classes.
 */
import { usageError } from '../base/errors.ts'
import { defineNetwork, imageOptions } from './define-network.ts'

export const lenet = defineNetwork({
  family: 'lenet',
  summary: 'LeNet-5 with ReLU and max pooling',
  options: {
    ...imageOptions,
    size: { ...imageOptions.size, minimum: 12, default: 28 },
    channels: { ...imageOptions.channels, default: 1 },
  },
  build({ classes, size, channels }, net) {
    if (size % 4 !== 0) throw usageError(`lenet: --size ${size} is not a multiple of 4`)
    let x = net.conv(net.input({ channels, size }), 'conv1', 6, { kernel: 5, pad: 2, bias: true })
    x = net.pool(net.relu(x, 'relu1'), 'pool1', 'MaxPool')
    x = net.conv(x, 'conv2', 16, { kernel: 5, pad: 0, bias: true })
    x = net.flatten(net.pool(net.relu(x, 'relu2'), 'pool2', 'MaxPool'), 'flatten')
    x = net.relu(net.linear(x, 'fc1', 120), 'relu3')
    x = net.relu(net.linear(x, 'fc2', 84), 'relu4')
    return net.output(net.linear(x, 'fc3', classes, 'logits'))
  },
})
