/* SPDX-License-Identifier: Apache-2.0 */
#include "nvc_nvml_ask.h"

#include <dlfcn.h>
#include <stdio.h>

/* The published ABI of NVML, as far as it is used. */
#define NVML_SUCCESS            0
#define NVML_NOT_SUPPORTED      3
#define NVML_NOT_FOUND          6
#define NVML_FUNCTION_NOT_FOUND 13
#define NVML_MIG_ENABLED        1u

/* nvmlPciInfo_t: these fields stand at the same place in every version of it. */
struct pci_info {
	char legacy_id[16];
	unsigned domain, bus, device;
	char rest[256]; /* more than any version has */
};

/* The functions are NULL where this driver lacks them: then only that answer is missing. */
struct nvml {
	struct nvc_error *err; /* its `step` is what is asked now */
	const char *(*error_string)(int status);
	int (*init)(void);
	int (*driver_version)(char *text, unsigned size);
	int (*cuda_version)(int *version);
	int (*count)(unsigned *count);
	int (*handle)(unsigned index, void **gpu);
	int (*uuid)(void *gpu, char *text, unsigned size);
	int (*name)(void *gpu, char *text, unsigned size);
	int (*minor)(void *gpu, unsigned *minor);
	int (*pci)(void *gpu, struct pci_info *pci);
	int (*brand)(void *gpu, unsigned *brand);
	int (*arch)(void *gpu, int *major, int *minor);
	int (*mig)(void *gpu, unsigned *current, unsigned *pending);
	int (*mig_max)(void *gpu, unsigned *count);
	int (*mig_handle)(void *gpu, unsigned index, void **device);
	int (*gpu_instance)(void *device, unsigned *id);
	int (*compute_instance)(void *device, unsigned *id);
};

static void begin(const struct nvml *api, const char *step)
{
	nvc_copy(api->err->step, sizeof api->err->step, step);
}

#define CALL(api, field, symbol, ...)                                                              \
	(begin(api, symbol),                                                                       \
	 (api)->field != NULL ? (api)->field(__VA_ARGS__) : NVML_FUNCTION_NOT_FOUND)

static int fail(const struct nvml *api, const char *what, const char *text)
{
	char step[sizeof api->err->step];

	nvc_copy(step, sizeof step, api->err->step);
	(void)nvc_fail(api->err, NVC_EDRIVER, step, NULL, NULL);
	(void)snprintf(api->err->msg, sizeof api->err->msg, "%s%s", what,
	               text != NULL ? text : "unknown error");
	return -1;
}

static int load(struct nvml *api, const char *path)
{
	void *lib;

	begin(api, "dlopen");
	lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (lib == NULL)
		return fail(api, "load library failed: ", dlerror());
#define LOAD(field, symbol) api->field = (__typeof__(api->field))dlsym(lib, symbol)
	LOAD(error_string, "nvmlErrorString");
	LOAD(init, "nvmlInit_v2");
	LOAD(driver_version, "nvmlSystemGetDriverVersion");
	LOAD(cuda_version, "nvmlSystemGetCudaDriverVersion");
	LOAD(count, "nvmlDeviceGetCount_v2");
	LOAD(handle, "nvmlDeviceGetHandleByIndex_v2");
	LOAD(uuid, "nvmlDeviceGetUUID");
	LOAD(name, "nvmlDeviceGetName");
	LOAD(minor, "nvmlDeviceGetMinorNumber");
	LOAD(pci, "nvmlDeviceGetPciInfo");
	LOAD(brand, "nvmlDeviceGetBrand");
	LOAD(arch, "nvmlDeviceGetCudaComputeCapability");
	LOAD(mig, "nvmlDeviceGetMigMode");
	LOAD(mig_max, "nvmlDeviceGetMaxMigDeviceCount");
	LOAD(mig_handle, "nvmlDeviceGetMigDeviceHandleByIndex");
	LOAD(gpu_instance, "nvmlDeviceGetGpuInstanceId");
	LOAD(compute_instance, "nvmlDeviceGetComputeInstanceId");
#undef LOAD
	return 0;
}

static int check(const struct nvml *api, int status)
{
	const char *text = NULL;

	if (status == NVML_SUCCESS)
		return 0;
	if (api->error_string != NULL)
		text = api->error_string(status);
	else if (status == NVML_FUNCTION_NOT_FOUND)
		text = "Function Not Found";
	return fail(api, "nvml error: ", text);
}

/* The same, for what a GPU or driver may not have. */
static int check_optional(const struct nvml *api, int status)
{
	if (status == NVML_NOT_SUPPORTED || status == NVML_FUNCTION_NOT_FOUND)
		return 0;
	return check(api, status);
}

static int ask_identity(const struct nvml *api, void *gpu, struct nvc_nvml_gpu *out)
{
	struct pci_info pci = {0};
	int status;

	status = CALL(api, uuid, "nvmlDeviceGetUUID", gpu, out->uuid, sizeof out->uuid);
	if (check(api, status) < 0)
		return -1;
	status = CALL(api, name, "nvmlDeviceGetName", gpu, out->name, sizeof out->name);
	if (check(api, status) < 0)
		return -1;
	status = CALL(api, minor, "nvmlDeviceGetMinorNumber", gpu, &out->minor);
	if (check(api, status) < 0)
		return -1;
	status = CALL(api, pci, "nvmlDeviceGetPciInfo", gpu, &pci);
	if (check(api, status) < 0)
		return -1;
	out->pci_domain = pci.domain;
	out->pci_bus = pci.bus;
	out->pci_device = pci.device;
	return 0;
}

static int ask_traits(const struct nvml *api, void *gpu, struct nvc_nvml_gpu *out)
{
	unsigned current = 0, pending = 0;
	int status;

	status = CALL(api, brand, "nvmlDeviceGetBrand", gpu, &out->brand);
	if (check_optional(api, status) < 0)
		return -1;
	status = CALL(api, arch, "nvmlDeviceGetCudaComputeCapability", gpu, &out->arch_major,
	              &out->arch_minor);
	if (check_optional(api, status) < 0)
		return -1;
	status = CALL(api, mig, "nvmlDeviceGetMigMode", gpu, &current, &pending);
	if (check_optional(api, status) < 0)
		return -1;
	out->mig_capable = status == NVML_SUCCESS;
	out->mig_enabled = out->mig_capable && current == NVML_MIG_ENABLED;
	return 0;
}

static int ask_mig_device(const struct nvml *api, void *device, struct nvc_nvml_mig *out)
{
	int status;

	status = CALL(api, uuid, "nvmlDeviceGetUUID", device, out->uuid, sizeof out->uuid);
	if (check(api, status) < 0)
		return -1;
	status = CALL(api, gpu_instance, "nvmlDeviceGetGpuInstanceId", device, &out->gpu_instance);
	if (check(api, status) < 0)
		return -1;
	status = CALL(api, compute_instance, "nvmlDeviceGetComputeInstanceId", device,
	              &out->compute_instance);
	return check(api, status);
}

/* The index space may have holes, where a device was destroyed. */
static int ask_mig_devices(const struct nvml *api, void *gpu, struct nvc_nvml_gpu *out)
{
	unsigned max = 0;
	int status = CALL(api, mig_max, "nvmlDeviceGetMaxMigDeviceCount", gpu, &max);

	if (check_optional(api, status) < 0)
		return -1;
	if (max > NVC_NVML_MIGS_MAX)
		return fail(api, "too many mig devices", "");
	for (unsigned i = 0; i < max; i++) {
		struct nvc_nvml_mig *mig = &out->migs[out->mig_count];
		void *device = NULL;

		status =
		    CALL(api, mig_handle, "nvmlDeviceGetMigDeviceHandleByIndex", gpu, i, &device);
		if (status == NVML_NOT_FOUND)
			continue;
		if (check(api, status) < 0 || ask_mig_device(api, device, mig) < 0)
			return -1;
		mig->index = i;
		out->mig_count++;
	}
	return 0;
}

static int ask_driver(const struct nvml *api, struct nvc_nvml_facts *out)
{
	int status;

	status = CALL(api, init, "nvmlInit_v2");
	if (check(api, status) < 0)
		return -1;
	status = CALL(api, driver_version, "nvmlSystemGetDriverVersion", out->driver_version,
	              sizeof out->driver_version);
	if (check(api, status) < 0)
		return -1;
	status = CALL(api, cuda_version, "nvmlSystemGetCudaDriverVersion", &out->cuda_version);
	if (check(api, status) < 0)
		return -1;
	status = CALL(api, count, "nvmlDeviceGetCount_v2", &out->gpu_count);
	return check(api, status);
}

static int ask_gpu(const struct nvml *api, unsigned index, struct nvc_nvml_gpu *out)
{
	void *gpu = NULL;
	int status = CALL(api, handle, "nvmlDeviceGetHandleByIndex_v2", index, &gpu);

	if (check(api, status) < 0 || ask_identity(api, gpu, out) < 0 ||
	    ask_traits(api, gpu, out) < 0)
		return -1;
	return out->mig_enabled ? ask_mig_devices(api, gpu, out) : 0;
}

int nvc_nvml_ask(const char *path, struct nvc_nvml_facts *out, struct nvc_error *err)
{
	struct nvml api = {.err = err};

	if (load(&api, path) < 0 || ask_driver(&api, out) < 0)
		return -1;
	if (out->gpu_count > NVC_NVML_GPUS_MAX)
		return fail(&api, "too many devices", "");
	for (unsigned i = 0; i < out->gpu_count; i++) {
		out->gpu_asked = (int32_t)i;
		if (ask_gpu(&api, i, &out->gpus[i]) < 0)
			return -1;
	}
	return 0; /* NVML stays initialised: the process ends here */
}
