/* SPDX-License-Identifier: Apache-2.0 */
#include "nvml_state.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sim_devices.h"

static struct {
	unsigned int users; /* nvmlInit less nvmlShutdown */
	bool busy;          /* a thread is in one of them */
	unsigned int count;
	unsigned int mig_count;
	const struct sim_gpu *gpus[SIM_MAX_GPUS];
	struct nvml_mig migs[SIM_MAX_MIGS];
} state;

static void lock(void)
{
	while (__atomic_test_and_set(&state.busy, __ATOMIC_ACQUIRE))
		(void)poll(NULL, 0, 1);
}

static void unlock(void)
{
	__atomic_clear(&state.busy, __ATOMIC_RELEASE);
}

void nvml_crash(void)
{
	(void)syscall(SYS_kill, syscall(SYS_getpid), SIGSEGV);
	__builtin_trap(); /* the signal was blocked or handled */
}

static nvmlReturn_t misbehave(void)
{
	const struct sim_config *config = sim_config();

	switch ((enum sim_fault)config->fault) {
	case SIM_FAULT_NVML_HANG:
		for (;;)
			(void)poll(NULL, 0, -1);
	case SIM_FAULT_NVML_CRASH:
		nvml_crash();
	case SIM_FAULT_NVML_ERROR:
		return (nvmlReturn_t)config->fault_code;
	case SIM_FAULT_NONE:
	case SIM_FAULT_NVML_CRASH_QUERY:
	case SIM_FAULT_GPU_LOST:
		break;
	}
	return NVML_SUCCESS;
}

/* What users see of the control device: no module, no right, or a cgroup in the way. */
static nvmlReturn_t check_control(void)
{
	switch (sim_open_control()) {
	case ENXIO:
		return NVML_SUCCESS;
	case EACCES:
		return NVML_ERROR_NO_PERMISSION;
	case EPERM:
		return NVML_ERROR_UNKNOWN;
	default:
		return NVML_ERROR_DRIVER_NOT_LOADED;
	}
}

/* List the MIG devices of one GPU, at the indices that are not holes. */
static void find_migs(unsigned int parent)
{
	const struct sim_gpu *gpu = state.gpus[parent];
	const struct sim_mig *found[SIM_MAX_MIGS];
	uint32_t count = sim_usable_migs(gpu, found);
	unsigned int index = 0;

	for (uint32_t i = 0; i < count; i++, index++) {
		while (index < 32 && (gpu->mig_holes >> index & 1u) != 0)
			index++;
		state.migs[state.mig_count++] = (struct nvml_mig){found[i], parent, index};
	}
}

static void find_devices(void)
{
	state.count = sim_usable_gpus(state.gpus);
	state.mig_count = 0;
	for (unsigned int i = 0; i < state.count; i++)
		find_migs(i);
}

nvmlReturn_t nvmlInitWithFlags(unsigned int flags)
{
	nvmlReturn_t result = misbehave();

	(void)flags;
	if (result == NVML_SUCCESS)
		result = check_control();
	if (result != NVML_SUCCESS)
		return result;
	lock();
	if (state.users++ == 0)
		find_devices();
	unlock();
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlInit_v2(void)
{
	return nvmlInitWithFlags(0);
}

nvmlReturn_t nvmlInit(void)
{
	return nvmlInitWithFlags(0);
}

nvmlReturn_t nvmlShutdown(void)
{
	nvmlReturn_t result = NVML_SUCCESS;

	lock();
	if (state.users == 0)
		result = NVML_ERROR_UNINITIALIZED;
	else
		state.users--;
	unlock();
	return result;
}

int nvml_count(void)
{
	return state.users == 0 ? -1 : (int)state.count;
}

/* A handle is the address of the device's place in its list. */
nvmlDevice_t nvml_handle(unsigned int index)
{
	return index < state.count ? (nvmlDevice_t)(void *)&state.gpus[index] : NULL;
}

unsigned int nvml_index(nvmlDevice_t device)
{
	unsigned int index = 0;

	while (index < state.count && nvml_handle(index) != device)
		index++;
	return index;
}

nvmlDevice_t nvml_find_mig(unsigned int parent, unsigned int index)
{
	for (unsigned int i = 0; i < state.mig_count; i++) {
		if (state.migs[i].parent == parent && state.migs[i].index == index)
			return (nvmlDevice_t)(void *)&state.migs[i];
	}
	return NULL;
}

nvmlDevice_t nvml_find_mig_uuid(const char *uuid)
{
	for (unsigned int i = 0; i < state.mig_count; i++) {
		if (strcasecmp(state.migs[i].mig->uuid, uuid) == 0)
			return (nvmlDevice_t)(void *)&state.migs[i];
	}
	return NULL;
}

const struct nvml_mig *nvml_mig(nvmlDevice_t device)
{
	for (unsigned int i = 0; state.users > 0 && i < state.mig_count; i++) {
		if (device == (nvmlDevice_t)(void *)&state.migs[i])
			return &state.migs[i];
	}
	return NULL;
}

const struct sim_gpu *nvml_place(nvmlDevice_t device, nvmlReturn_t *result)
{
	unsigned int index;

	if (state.users == 0) {
		*result = NVML_ERROR_UNINITIALIZED;
		return NULL;
	}
	index = nvml_index(device);
	if (index == state.count) {
		*result = nvml_mig(device) != NULL ? NVML_ERROR_NOT_SUPPORTED
		                                   : NVML_ERROR_INVALID_ARGUMENT;
		return NULL;
	}
	return state.gpus[index];
}

const struct sim_gpu *nvml_gpu(nvmlDevice_t device, nvmlReturn_t *result)
{
	const struct sim_gpu *gpu = nvml_place(device, result);

	if (gpu == NULL || !sim_gpu_lost(gpu))
		return gpu;
	*result = NVML_ERROR_GPU_IS_LOST;
	return NULL;
}

const struct sim_gpu *nvml_parent(nvmlDevice_t device, nvmlReturn_t *result)
{
	const struct nvml_mig *mig = nvml_mig(device);

	return nvml_gpu(mig != NULL ? nvml_handle(mig->parent) : device, result);
}

nvmlReturn_t nvml_copy(char *to, unsigned int length, const char *text)
{
	size_t needed = strlen(text) + 1;

	if (needed > length)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	memcpy(to, text, needed);
	return NVML_SUCCESS;
}
