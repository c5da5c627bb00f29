/* SPDX-License-Identifier: Apache-2.0 */
#include "nvml_state.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sim_devices.h"

static struct {
	unsigned int users; /* nvmlInit less nvmlShutdown */
	bool busy;          /* a thread is in one of them */
	unsigned int count;
	const struct sim_gpu *gpus[SIM_MAX_GPUS];
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
		state.count = sim_usable_gpus(state.gpus);
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

/* A handle is the address of the GPU's place in the list. */
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

const struct sim_gpu *nvml_place(nvmlDevice_t device, nvmlReturn_t *result)
{
	unsigned int index;

	if (state.users == 0) {
		*result = NVML_ERROR_UNINITIALIZED;
		return NULL;
	}
	index = nvml_index(device);
	if (index == state.count) {
		*result = NVML_ERROR_INVALID_ARGUMENT;
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

nvmlReturn_t nvml_copy(char *to, unsigned int length, const char *text)
{
	size_t needed = strlen(text) + 1;

	if (needed > length)
		return NVML_ERROR_INSUFFICIENT_SIZE;
	memcpy(to, text, needed);
	return NVML_SUCCESS;
}
