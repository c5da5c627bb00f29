/* SPDX-License-Identifier: Apache-2.0 */
/* What this process may see of the simulated host. A device is usable if its node is there with
 * the right number and the kernel lets it be opened as far as the missing hardware: ENXIO. EPERM
 * is a device cgroup that denies it, EACCES the node's mode or a mount with nodev. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "sim_config.h"

#define SIM_NVIDIA_MAJOR 195u
#define SIM_CTL_MINOR    255u

/* Open a character device node for reading and writing.
 * Returns the errno of open (0: there really is such a device), or of stat, or ENODEV for a node
 * with another number. */
int sim_open_node(const char *path, uint32_t major, uint32_t minor);

/* The same for /dev/nvidiactl. */
int sim_open_control(void);

/* The GPUs of the host that this process may use, by PCI address. Returns their number. */
uint32_t sim_usable_gpus(const struct sim_gpu *found[SIM_MAX_GPUS]);

/* The MIG devices of a GPU whose two capabilities this process may use, in NVML's order. Returns
 * their number: 0 where MIG mode is off. */
uint32_t sim_usable_migs(const struct sim_gpu *gpu, const struct sim_mig *found[SIM_MAX_MIGS]);

/* The name of a MIG device, "NVIDIA A100-SXM4-40GB MIG 1g.5gb", cut to the size. */
void sim_format_mig(const struct sim_gpu *gpu, const struct sim_mig *mig, char *text, size_t size);

/* Whether a GPU of the host fell off the bus. Its node is still there. */
int sim_gpu_lost(const struct sim_gpu *gpu);

/* "00000000:07:00.0", cut to the size. */
void sim_format_pci(const struct sim_gpu *gpu, char *text, size_t size);

/* Read "0000:07:00.0", "07:00.0" or another width of domain, any case. -1: not an address. */
int sim_parse_pci(const char *text, uint32_t *domain, uint32_t *bus, uint32_t *device);
