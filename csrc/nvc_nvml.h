/* SPDX-License-Identifier: Apache-2.0 */
/* Ask the driver's management library (NVML) what GPUs there are, once, in a child that can hang
 * or crash without harm: forked, chrooted into the driver root, without privileges, under a
 * deadline. Only the part of NVML's published ABI that is used is declared (nvc_nvml_ask.c); no
 * header of NVIDIA is needed to build.
 *
 * The caller's process keeps its directory, signal handlers, capabilities and descriptors. A
 * caller that ignores SIGCHLD, or reaps our child behind our back, gets its answer all the same.
 * Privileges: none for root "/". Otherwise CAP_SYS_CHROOT, or a kernel that allows unprivileged
 * user namespaces. Changing to `uid` needs CAP_SETUID and CAP_SETGID. Fork class: parent only. */
#pragma once

#include <stdint.h>

#include "nvc_error.h"

#define NVC_NVML_GPUS_MAX    128
#define NVC_NVML_VERSION_LEN 80
#define NVC_NVML_TEXT_LEN    96
#define NVC_NVML_MIGS_MAX    16
#define NVC_NVML_PATH_LEN    512
#define NVC_NVML_KEEP_ID     UINT32_MAX /* stay the user, or group, that the caller is */

struct nvc_nvml_options {
	const char *root;    /* driver root, absolute; "" or "/" for the host itself */
	const char *library; /* path of libnvidia-ml.so.1 below it */
	uint32_t uid, gid;   /* who the child becomes, or NVC_NVML_KEEP_ID */
	int optional_ids;    /* stay if `uid` or `gid` do not exist in this user namespace */
	int timeout_ms;
};

struct nvc_nvml_mig {
	uint32_t index; /* in NVML's order, which may have holes */
	uint32_t gpu_instance, compute_instance;
	char uuid[NVC_NVML_TEXT_LEN];
};

struct nvc_nvml_gpu {
	uint32_t minor; /* N of /dev/nvidiaN */
	uint32_t brand; /* nvmlBrandType_t, 0 if unknown */
	uint32_t pci_domain, pci_bus, pci_device;
	int32_t arch_major, arch_minor; /* compute capability; 0.0 if unknown */
	int32_t mig_capable, mig_enabled;
	char uuid[NVC_NVML_TEXT_LEN];
	char name[NVC_NVML_TEXT_LEN];
	uint32_t mig_count;
	struct nvc_nvml_mig migs[NVC_NVML_MIGS_MAX];
};

struct nvc_nvml_facts {
	char driver_version[NVC_NVML_VERSION_LEN];
	int32_t cuda_version; /* 12020 is 12.2 */
	uint32_t gpu_count;
	struct nvc_nvml_gpu gpus[NVC_NVML_GPUS_MAX]; /* in NVML's order */
	int32_t gpu_asked;                           /* the last one asked about, -1 for none */
	char blocked[NVC_NVML_PATH_LEN]; /* after NVC_ETIMEOUT what the child waited for, or "" */
};

/* Fails with NVC_EDRIVER (no library, or NVML's own error), NVC_ETIMEOUT, NVC_ECRASH, NVC_EINVAL.
 * `err->msg` is the reference's wording, `err->step` the function of NVML that failed, did not
 * return or crashed. On failure too `gpu_asked` and `blocked` are set. */
int nvc_nvml_probe(const struct nvc_nvml_options *options, struct nvc_nvml_facts *out,
                   struct nvc_error *err);
