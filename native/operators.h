/* The operators of the domain `mnc.step` (operators.c). */
#pragma once
#include "ort.h"

/** Kernels for this processor; the name of their instruction set. To be called before any operator runs. */
const char *choose_kernels(void);

/** The domain with its operators, to be added to the options of sessions, all of which it outlives. */
OrtStatus *make_domain(OrtCustomOpDomain **domain);
