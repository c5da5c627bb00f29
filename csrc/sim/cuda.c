/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated CUDA driver API: which devices there are, and what they are. */
#include "cuda_abi.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "sim_devices.h"

/* A GPU or, with `mig`, a part of it. */
struct device {
	const struct sim_gpu *gpu;
	const struct sim_mig *mig;
};

/* CUDA's interface has no context to keep this in. Set once, by the first cuInit. */
static struct {
	int ready;
	int count;
	struct device devices[SIM_MAX_GPUS];
} state;

static const struct {
	CUresult code;
	const char *name, *text;
} messages[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
     "system has unsupported display driver / cuda driver combination"},
    {CUDA_ERROR_UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

#define MESSAGES (sizeof messages / sizeof *messages)

static size_t find_message(CUresult error)
{
	size_t i = 0;

	while (i < MESSAGES && messages[i].code != error)
		i++;
	return i;
}

CUresult cuGetErrorString(CUresult error, const char **pStr)
{
	size_t i = find_message(error);

	if (pStr == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	*pStr = i < MESSAGES ? messages[i].text : NULL;
	return i < MESSAGES ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorName(CUresult error, const char **pStr)
{
	size_t i = find_message(error);

	if (pStr == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	*pStr = i < MESSAGES ? messages[i].name : NULL;
	return i < MESSAGES ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* Try the node that memory is shared by; ENXIO is the answer of one that is there. */
static int open_memory(void)
{
	const struct sim_config *config = sim_config();

	if (config->nvgpu_major != 0)
		return sim_open_node("/dev/nvgpu/igpu0/ctrl", config->nvgpu_major, 2);
	return sim_open_node("/dev/nvidia-uvm", config->uvm_major, 0);
}

/* Find the devices of this process: the GPUs that are neither lost nor divided. Where there is
 * none, the first MIG device: CUDA never uses more than one of these. */
static int find_devices(struct device devices[SIM_MAX_GPUS])
{
	const struct sim_gpu *gpus[SIM_MAX_GPUS];
	const struct sim_mig *migs[SIM_MAX_MIGS];
	uint32_t count = sim_usable_gpus(gpus);
	int found = 0;

	for (uint32_t i = 0; i < count; i++) {
		if (!sim_gpu_lost(gpus[i]) && gpus[i]->mig_mode == 0)
			devices[found++] = (struct device){gpus[i], NULL};
	}
	for (uint32_t i = 0; i < count && found == 0; i++) {
		if (!sim_gpu_lost(gpus[i]) && sim_usable_migs(gpus[i], migs) > 0)
			devices[found++] = (struct device){gpus[i], migs[0]};
	}
	return found;
}

CUresult cuInit(unsigned int Flags)
{
	struct device devices[SIM_MAX_GPUS];
	int count;

	if (Flags != 0)
		return CUDA_ERROR_INVALID_VALUE;
	if (state.ready)
		return CUDA_SUCCESS;
	if (sim_open_control() != ENXIO)
		return CUDA_ERROR_NO_DEVICE;
	if (sim_config()->fault == SIM_FAULT_VERSION_MISMATCH)
		return CUDA_ERROR_SYSTEM_DRIVER_MISMATCH;
	count = find_devices(devices);
	if (count == 0)
		return CUDA_ERROR_NO_DEVICE;
	/* Without unified memory: what users know as "CUDA error 999". */
	if (open_memory() != ENXIO)
		return CUDA_ERROR_UNKNOWN;
	memcpy(state.devices, devices, sizeof *devices * (size_t)count);
	state.count = count;
	state.ready = 1;
	return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *driverVersion)
{
	if (driverVersion == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	*driverVersion = (int)sim_config()->cuda_version;
	return CUDA_SUCCESS;
}

/* Find a device; `valid`: the caller's other arguments are. */
static CUresult find(CUdevice dev, int valid, const struct device **device)
{
	if (!state.ready)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (!valid)
		return CUDA_ERROR_INVALID_VALUE;
	if (dev < 0 || dev >= state.count)
		return CUDA_ERROR_INVALID_DEVICE;
	*device = &state.devices[dev];
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count)
{
	if (!state.ready)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (count == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	*count = state.count;
	return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
	const struct device *found = NULL;
	CUresult result = find(ordinal, device != NULL, &found);

	if (result == CUDA_SUCCESS)
		*device = ordinal;
	return result;
}

CUresult cuDeviceGetName(char *name, int len, CUdevice dev)
{
	const struct device *found = NULL;
	CUresult result = find(dev, name != NULL && len > 0, &found);

	if (result != CUDA_SUCCESS)
		return result;
	if (found->mig != NULL)
		sim_format_mig(found->gpu, found->mig, name, (size_t)len);
	else
		(void)snprintf(name, (size_t)len, "%s", found->gpu->name);
	return CUDA_SUCCESS;
}

static unsigned int hex_digit(char c)
{
	return (unsigned int)(c >= 'a' ? c - 'a' + 10 : c - '0');
}

/* Read "GPU-…" or "MIG-…"; of the older names of MIG devices, "MIG-GPU-…/1/0", the GPU's part. */
static void parse_uuid(const char *text, CUuuid *uuid)
{
	const char *p = text + (strncmp(text, "MIG-", 4) == 0 ? 4 : 0);

	memset(uuid, 0, sizeof *uuid);
	p += strncmp(p, "GPU-", 4) == 0 ? 4 : 0;
	for (unsigned int digits = 0; *p != '\0' && digits < 32; p++) {
		if (*p == '-')
			continue;
		uuid->bytes[digits / 2] =
		    (char)((unsigned int)uuid->bytes[digits / 2] << 4 | hex_digit(*p));
		digits++;
	}
}

/* The first version has the GPU's for a MIG device. */
CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice dev)
{
	const struct device *found = NULL;
	CUresult result = find(dev, uuid != NULL, &found);

	if (result == CUDA_SUCCESS)
		parse_uuid(found->gpu->uuid, uuid);
	return result;
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice dev)
{
	const struct device *found = NULL;
	CUresult result = find(dev, uuid != NULL, &found);

	if (result == CUDA_SUCCESS)
		parse_uuid(found->mig != NULL ? found->mig->uuid : found->gpu->uuid, uuid);
	return result;
}

CUresult cuDeviceGetPCIBusId(char *pciBusId, int len, CUdevice dev)
{
	const struct device *found = NULL;
	CUresult result = find(dev, pciBusId != NULL && len > 0, &found);

	if (result == CUDA_SUCCESS)
		(void)snprintf(pciBusId, (size_t)len, "%04X:%02X:%02X.0", found->gpu->pci_domain,
		               found->gpu->pci_bus, found->gpu->pci_device);
	return result;
}

CUresult cuDeviceGetByPCIBusId(CUdevice *dev, const char *pciBusId)
{
	uint32_t domain = 0, bus = 0, slot = 0;

	if (!state.ready)
		return CUDA_ERROR_NOT_INITIALIZED;
	if (dev == NULL || pciBusId == NULL || sim_parse_pci(pciBusId, &domain, &bus, &slot) != 0)
		return CUDA_ERROR_INVALID_VALUE;
	for (int i = 0; i < state.count; i++) {
		const struct sim_gpu *gpu = state.devices[i].gpu;

		if (gpu->pci_domain == domain && gpu->pci_bus == bus && gpu->pci_device == slot)
			return cuDeviceGet(dev, i);
	}
	return CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev)
{
	const struct device *found = NULL;
	CUresult result = find(dev, bytes != NULL, &found);

	if (result != CUDA_SUCCESS)
		return result;
	if (found->mig != NULL)
		*bytes = found->mig->memory_total;
	else
		*bytes = found->gpu->memory_total - found->gpu->memory_reserved;
	return CUDA_SUCCESS;
}

/* The first version of the interface counted in 32 bits. */
CUresult cuDeviceTotalMem(unsigned int *bytes, CUdevice dev)
{
	size_t total = 0;
	CUresult result =
	    bytes == NULL ? CUDA_ERROR_INVALID_VALUE : cuDeviceTotalMem_v2(&total, dev);

	if (result == CUDA_SUCCESS)
		*bytes = total > UINT_MAX ? UINT_MAX : (unsigned int)total;
	return result;
}

CUresult cuDeviceGetAttribute(int *pi, CUdevice_attribute attrib, CUdevice dev)
{
	const struct device *found = NULL;
	CUresult result = find(dev, pi != NULL, &found);
	const struct sim_gpu *gpu;
	uint32_t value;

	if (result != CUDA_SUCCESS)
		return result;
	gpu = found->gpu;
	if (attrib == CU_DEVICE_ATTRIBUTE_ECC_ENABLED)
		value = gpu->ecc;
	else if (attrib == CU_DEVICE_ATTRIBUTE_PCI_BUS_ID)
		value = gpu->pci_bus;
	else if (attrib == CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID)
		value = gpu->pci_device;
	else if (attrib == CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID)
		value = gpu->pci_domain;
	else if (attrib == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
		value = gpu->compute_major;
	else if (attrib == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
		value = gpu->compute_minor;
	else
		return CUDA_ERROR_INVALID_VALUE;
	*pi = (int)value;
	return CUDA_SUCCESS;
}
