/* SPDX-License-Identifier: Apache-2.0 */
/* The questions to NVML, asked in the calling process: it loads the library and runs its code.
 * Only the child of nvc_nvml.c calls this. Fork class: a child forked by the C library's fork(),
 * which resets the locks of malloc and of the loader. */
#pragma once

#include "nvc_nvml.h"

/* Load the library at `path` and fill `out`. Fails with NVC_EDRIVER. Before each question its name
 * is in `err->step` and the GPU's index in `out->gpu_asked`: should the answer never come, whoever
 * waits for it can say which. */
int nvc_nvml_ask(const char *path, struct nvc_nvml_facts *out, struct nvc_error *err);
