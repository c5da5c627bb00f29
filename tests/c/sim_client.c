/* SPDX-License-Identifier: Apache-2.0 */
/* A client of NVML compiled against NVIDIA's own header: calls every function that the simulated
 * library has, on GPU 0, and prints name and result, one a line. */
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <nvml.h>
#include <stdio.h>

#define CALL(function, ...) (void)printf(#function " %d\n", (int)function(__VA_ARGS__))

static void call_system(void)
{
	char text[NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE];
	int version;

	CALL(nvmlInit);
	CALL(nvmlInit_v2);
	CALL(nvmlInitWithFlags, 0);
	(void)printf("nvmlErrorString %d\n", nvmlErrorString(NVML_SUCCESS) == NULL);
	CALL(nvmlSystemGetDriverVersion, text, sizeof text);
	CALL(nvmlSystemGetNVMLVersion, text, sizeof text);
	CALL(nvmlSystemGetCudaDriverVersion, &version);
	CALL(nvmlSystemGetCudaDriverVersion_v2, &version);
}

static nvmlDevice_t call_enumeration(void)
{
	unsigned int count;
	nvmlDevice_t gpu = NULL;
	nvmlPciInfo_t pci = {0};
	char uuid[NVML_DEVICE_UUID_V2_BUFFER_SIZE] = "";

	CALL(nvmlDeviceGetCount, &count);
	CALL(nvmlDeviceGetCount_v2, &count);
	CALL(nvmlDeviceGetHandleByIndex, 0, &gpu);
	CALL(nvmlDeviceGetHandleByIndex_v2, 0, &gpu);
	CALL(nvmlDeviceGetPciInfo, gpu, &pci);
	CALL(nvmlDeviceGetPciInfo_v2, gpu, &pci);
	CALL(nvmlDeviceGetPciInfo_v3, gpu, &pci);
	CALL(nvmlDeviceGetHandleByPciBusId, pci.busId, &gpu);
	CALL(nvmlDeviceGetHandleByPciBusId_v2, pci.busIdLegacy, &gpu);
	CALL(nvmlDeviceGetUUID, gpu, uuid, sizeof uuid);
	CALL(nvmlDeviceGetHandleByUUID, uuid, &gpu);
	return gpu;
}

static void call_identity(nvmlDevice_t gpu)
{
	char text[NVML_DEVICE_NAME_V2_BUFFER_SIZE];
	nvmlBrandType_t brand;
	nvmlDevice_t mig;
	unsigned int number, other;
	int major, minor;

	CALL(nvmlDeviceGetName, gpu, text, sizeof text);
	CALL(nvmlDeviceGetBrand, gpu, &brand);
	CALL(nvmlDeviceGetIndex, gpu, &number);
	CALL(nvmlDeviceGetMinorNumber, gpu, &number);
	CALL(nvmlDeviceGetVbiosVersion, gpu, text, sizeof text);
	CALL(nvmlDeviceGetCudaComputeCapability, gpu, &major, &minor);
	CALL(nvmlDeviceGetMigMode, gpu, &number, &other);
	CALL(nvmlDeviceGetMaxMigDeviceCount, gpu, &number);
	CALL(nvmlDeviceGetMigDeviceHandleByIndex, gpu, 0, &mig);
	CALL(nvmlDeviceIsMigDeviceHandle, gpu, &number);
}

/* On a GPU, which is no MIG device. */
static void call_mig(nvmlDevice_t gpu)
{
	unsigned int number;
	nvmlDevice_t parent;

	CALL(nvmlDeviceGetDeviceHandleFromMigDeviceHandle, gpu, &parent);
	CALL(nvmlDeviceGetGpuInstanceId, gpu, &number);
	CALL(nvmlDeviceGetComputeInstanceId, gpu, &number);
}

static void call_board(nvmlDevice_t gpu)
{
	nvmlMemory_t memory;
	nvmlMemory_v2_t memory2 = {.version = nvmlMemory_v2};
	nvmlUtilization_t utilization;
	nvmlPstates_t pstate;
	nvmlComputeMode_t mode;
	nvmlEnableState_t state, other;
	unsigned long long errors;
	unsigned int number;

	CALL(nvmlDeviceGetMemoryInfo, gpu, &memory);
	CALL(nvmlDeviceGetMemoryInfo_v2, gpu, &memory2);
	CALL(nvmlDeviceGetUtilizationRates, gpu, &utilization);
	CALL(nvmlDeviceGetTemperature, gpu, NVML_TEMPERATURE_GPU, &number);
	CALL(nvmlDeviceGetFanSpeed, gpu, &number);
	CALL(nvmlDeviceGetPowerUsage, gpu, &number);
	CALL(nvmlDeviceGetPowerManagementLimit, gpu, &number);
	CALL(nvmlDeviceGetEnforcedPowerLimit, gpu, &number);
	CALL(nvmlDeviceGetPerformanceState, gpu, &pstate);
	CALL(nvmlDeviceGetPersistenceMode, gpu, &state);
	CALL(nvmlDeviceGetComputeMode, gpu, &mode);
	CALL(nvmlDeviceGetDisplayMode, gpu, &state);
	CALL(nvmlDeviceGetDisplayActive, gpu, &state);
	CALL(nvmlDeviceGetEccMode, gpu, &state, &other);
	CALL(nvmlDeviceGetTotalEccErrors, gpu, NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
	     NVML_VOLATILE_ECC, &errors);
}

static void call_processes(nvmlDevice_t gpu)
{
	nvmlProcessInfo_v1_t one[1];
	nvmlProcessInfo_v2_t two[1];
	nvmlProcessInfo_t three[1];
	unsigned int count = 1;

	CALL(nvmlDeviceGetComputeRunningProcesses, gpu, &count, one);
	CALL(nvmlDeviceGetComputeRunningProcesses_v2, gpu, &count, two);
	CALL(nvmlDeviceGetComputeRunningProcesses_v3, gpu, &count, three);
	CALL(nvmlDeviceGetGraphicsRunningProcesses, gpu, &count, one);
	CALL(nvmlDeviceGetGraphicsRunningProcesses_v2, gpu, &count, two);
	CALL(nvmlDeviceGetGraphicsRunningProcesses_v3, gpu, &count, three);
	CALL(nvmlDeviceGetMPSComputeRunningProcesses, gpu, &count, one);
	CALL(nvmlDeviceGetMPSComputeRunningProcesses_v2, gpu, &count, two);
	CALL(nvmlDeviceGetMPSComputeRunningProcesses_v3, gpu, &count, three);
}

int main(void)
{
	nvmlDevice_t gpu;

	call_system();
	gpu = call_enumeration();
	call_identity(gpu);
	call_mig(gpu);
	call_board(gpu);
	call_processes(gpu);
	CALL(nvmlShutdown);
	CALL(nvmlShutdown);
	CALL(nvmlShutdown);
	return (int)nvmlShutdown() == NVML_ERROR_UNINITIALIZED ? 0 : 1;
}
