/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated host, as it stands inside each copy of a simulated library. `libnvc.sim` finds the
 * record in the file by its magic and overwrites it; libnvc/sim/blob.py has the same layout.
 * Nothing else configures the libraries: no environment variable, no file. */
#pragma once

#include <stdint.h>

#define SIM_MAGIC    "NVC-SIM-HOST-2"
#define SIM_VERSION  2u
#define SIM_MAX_GPUS 128u
#define SIM_MAX_MIGS 64u /* of all GPUs together */

enum sim_fault {
	SIM_FAULT_NONE,
	SIM_FAULT_NVML_HANG,        /* nvmlInit never returns */
	SIM_FAULT_NVML_CRASH,       /* nvmlInit dies of SIGSEGV */
	SIM_FAULT_NVML_CRASH_QUERY, /* nvmlDeviceGetName dies of SIGSEGV */
	SIM_FAULT_NVML_ERROR,       /* nvmlInit returns fault_code */
	SIM_FAULT_GPU_LOST,         /* gpus[fault_code] fell off the bus */
	SIM_FAULT_VERSION_MISMATCH, /* the kernel module is of another version */
};

struct sim_gpu {
	uint64_t memory_total;    /* bytes */
	uint64_t memory_reserved; /* bytes, of the total */
	uint64_t memory_used;     /* bytes, without the reserved ones */
	uint32_t pci_domain;
	uint32_t pci_bus;
	uint32_t pci_device;
	uint32_t pci_id;        /* device << 16 | vendor */
	uint32_t pci_subsystem; /* device << 16 | vendor */
	uint32_t minor;         /* the N of /dev/nvidiaN */
	uint32_t brand;         /* nvmlBrandType_t */
	uint32_t compute_major;
	uint32_t compute_minor;
	uint32_t mig_devices; /* at most; 0: the GPU has no MIG */
	uint32_t mig_mode;    /* 0 or 1 */
	uint32_t mig_holes;   /* bit N: NVML has no MIG device at index N */
	uint32_t persistence; /* 0 or 1 */
	uint32_t ecc;         /* 0: no ECC memory, 1: ECC is on */
	uint32_t temperature; /* degrees Celsius */
	uint32_t power_usage; /* milliwatts; 0: not known */
	uint32_t power_limit; /* milliwatts; 0: none */
	uint32_t performance; /* P-state, 0 to 15 */
	uint32_t display;     /* 0 or 1: one is connected */
	uint32_t fan;         /* 1 + speed in percent; 0: no fan */
	char name[96];
	char uuid[48]; /* "GPU-…" */
	char vbios[32];
};

struct sim_mig {
	uint64_t memory_total; /* bytes */
	uint32_t gpu;          /* its place in gpus */
	uint32_t gpu_instance;
	uint32_t compute_instance;
	uint32_t gpu_capability;     /* minor number that opens the GPU instance */
	uint32_t compute_capability; /* and the compute instance */
	uint32_t reserved;
	char slice[32]; /* "1g.5gb" */
	char uuid[64];  /* "MIG-…" */
};

struct sim_config {
	char magic[16];
	uint32_t version; /* SIM_VERSION */
	uint32_t size;    /* sizeof(struct sim_config) */
	uint32_t fault;   /* enum sim_fault */
	uint32_t fault_code;
	uint32_t cuda_version; /* major * 1000 + minor * 10 */
	uint32_t uvm_major;    /* of /dev/nvidia-uvm */
	uint32_t caps_major;   /* of /dev/nvidia-caps/…; 0: capabilities are files of /proc */
	uint32_t gpu_count;
	uint32_t mig_count;
	uint32_t
	    nvgpu_major; /* of /dev/nvgpu/igpu0/…, which a Jetson has for the one above; or 0 */
	char driver_version[80];
	char nvml_version[80];
	struct sim_gpu gpus[SIM_MAX_GPUS]; /* by PCI address */
	struct sim_mig migs[SIM_MAX_MIGS]; /* by GPU, in NVML's order */
};

_Static_assert(sizeof(struct sim_gpu) == 280, "no padding: blob.py packs the same");
_Static_assert(sizeof(struct sim_mig) == 128, "no padding");
_Static_assert(sizeof(struct sim_config) == 216 + SIM_MAX_GPUS * 280 + SIM_MAX_MIGS * 128,
               "no padding");

/* The record of this library. */
const struct sim_config *sim_config(void);
