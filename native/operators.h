/* The operators of the domain `step.mnc` (operators.c). */
#pragma once
#include "ort.h"

/** Kernels for this processor; the name of their instruction set. To be called before any operator runs. */
const char *choose_kernels(void);

/** The domain with its operators, to be added to the options of sessions, all of which it outlives. */
OrtStatus *make_domain(OrtCustomOpDomain **domain);

/* Of each operator: what it makes of its attributes when a session is made, freed with it, and what it computes. */
OrtStatus *norm_settings(const OrtKernelInfo *info, void **kernel);
OrtStatus *norm_forward(void *kernel, OrtKernelContext *context);
OrtStatus *norm_add_forward(void *kernel, OrtKernelContext *context);
OrtStatus *norm_backward(void *kernel, OrtKernelContext *context);
OrtStatus *activation_settings(const OrtKernelInfo *info, void **kernel);
OrtStatus *activation_gradient(void *kernel, OrtKernelContext *context);
OrtStatus *weight_gradient_settings(const OrtKernelInfo *info, void **kernel);
OrtStatus *weight_gradient(void *kernel, OrtKernelContext *context);
