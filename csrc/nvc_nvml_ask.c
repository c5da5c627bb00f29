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

/* NULL where this driver lacks the function: then only that answer is missing. */
struct nvml {
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

#define CALL(function, ...) ((function) != NULL ? (function)(__VA_ARGS__) : NVML_FUNCTION_NOT_FOUND)

static int load(struct nvml *api, const char *path, struct nvc_error *err)
{
	void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	if (lib == NULL) {
		const char *text = dlerror();

		(void)nvc_fail(err, NVC_EDRIVER, "dlopen", NULL, NULL);
		(void)snprintf(err->msg, sizeof err->msg, "load library failed: %s",
		               text != NULL ? text : "unknown error");
		return -1;
	}
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

static int check(const struct nvml *api, int status, const char *step, struct nvc_error *err)
{
	const char *text = NULL;

	if (status == NVML_SUCCESS)
		return 0;
	if (api->error_string != NULL)
		text = api->error_string(status);
	else if (status == NVML_FUNCTION_NOT_FOUND)
		text = "Function Not Found";
	(void)nvc_fail(err, NVC_EDRIVER, step, NULL, NULL);
	(void)snprintf(err->msg, sizeof err->msg, "nvml error: %s",
	               text != NULL ? text : "unknown error");
	return -1;
}

/* The same, for what a GPU or driver may not have. */
static int check_optional(const struct nvml *api, int status, const char *step,
                          struct nvc_error *err)
{
	if (status == NVML_NOT_SUPPORTED || status == NVML_FUNCTION_NOT_FOUND)
		return 0;
	return check(api, status, step, err);
}

static int ask_identity(const struct nvml *api, void *gpu, struct nvc_nvml_gpu *out,
                        struct nvc_error *err)
{
	struct pci_info pci = {0};
	int status;

	status = CALL(api->uuid, gpu, out->uuid, sizeof out->uuid);
	if (check(api, status, "nvmlDeviceGetUUID", err) < 0)
		return -1;
	status = CALL(api->name, gpu, out->name, sizeof out->name);
	if (check(api, status, "nvmlDeviceGetName", err) < 0)
		return -1;
	status = CALL(api->minor, gpu, &out->minor);
	if (check(api, status, "nvmlDeviceGetMinorNumber", err) < 0)
		return -1;
	status = CALL(api->pci, gpu, &pci);
	if (check(api, status, "nvmlDeviceGetPciInfo", err) < 0)
		return -1;
	out->pci_domain = pci.domain;
	out->pci_bus = pci.bus;
	out->pci_device = pci.device;
	return 0;
}

static int ask_traits(const struct nvml *api, void *gpu, struct nvc_nvml_gpu *out,
                      struct nvc_error *err)
{
	unsigned current = 0, pending = 0;
	int status;

	status = CALL(api->brand, gpu, &out->brand);
	if (check_optional(api, status, "nvmlDeviceGetBrand", err) < 0)
		return -1;
	status = CALL(api->arch, gpu, &out->arch_major, &out->arch_minor);
	if (check_optional(api, status, "nvmlDeviceGetCudaComputeCapability", err) < 0)
		return -1;
	status = CALL(api->mig, gpu, &current, &pending);
	if (check_optional(api, status, "nvmlDeviceGetMigMode", err) < 0)
		return -1;
	out->mig_capable = status == NVML_SUCCESS;
	out->mig_enabled = out->mig_capable && current == NVML_MIG_ENABLED;
	return 0;
}

static int ask_mig_device(const struct nvml *api, void *device, struct nvc_nvml_mig *out,
                          struct nvc_error *err)
{
	int status;

	status = CALL(api->uuid, device, out->uuid, sizeof out->uuid);
	if (check(api, status, "nvmlDeviceGetUUID", err) < 0)
		return -1;
	status = CALL(api->gpu_instance, device, &out->gpu_instance);
	if (check(api, status, "nvmlDeviceGetGpuInstanceId", err) < 0)
		return -1;
	status = CALL(api->compute_instance, device, &out->compute_instance);
	return check(api, status, "nvmlDeviceGetComputeInstanceId", err);
}

/* The index space may have holes, where a device was destroyed. */
static int ask_mig_devices(const struct nvml *api, void *gpu, struct nvc_nvml_gpu *out,
                           struct nvc_error *err)
{
	unsigned max = 0;
	int status = CALL(api->mig_max, gpu, &max);

	if (check_optional(api, status, "nvmlDeviceGetMaxMigDeviceCount", err) < 0)
		return -1;
	if (max > NVC_NVML_MIGS_MAX)
		return nvc_fail(err, NVC_EDRIVER, "nvmlDeviceGetMaxMigDeviceCount", NULL,
		                "too many mig devices");
	for (unsigned i = 0; i < max; i++) {
		struct nvc_nvml_mig *mig = &out->migs[out->mig_count];
		void *device = NULL;

		status = CALL(api->mig_handle, gpu, i, &device);
		if (status == NVML_NOT_FOUND)
			continue;
		if (check(api, status, "nvmlDeviceGetMigDeviceHandleByIndex", err) < 0 ||
		    ask_mig_device(api, device, mig, err) < 0)
			return -1;
		mig->index = i;
		out->mig_count++;
	}
	return 0;
}

static int ask_driver(const struct nvml *api, struct nvc_nvml_facts *out, struct nvc_error *err)
{
	int status;

	status = CALL(api->init);
	if (check(api, status, "nvmlInit_v2", err) < 0)
		return -1;
	status = CALL(api->driver_version, out->driver_version, sizeof out->driver_version);
	if (check(api, status, "nvmlSystemGetDriverVersion", err) < 0)
		return -1;
	status = CALL(api->cuda_version, &out->cuda_version);
	if (check(api, status, "nvmlSystemGetCudaDriverVersion", err) < 0)
		return -1;
	status = CALL(api->count, &out->gpu_count);
	return check(api, status, "nvmlDeviceGetCount_v2", err);
}

static int ask_gpu(const struct nvml *api, unsigned index, struct nvc_nvml_gpu *out,
                   struct nvc_error *err)
{
	void *gpu = NULL;
	int status = CALL(api->handle, index, &gpu);

	if (check(api, status, "nvmlDeviceGetHandleByIndex_v2", err) < 0 ||
	    ask_identity(api, gpu, out, err) < 0 || ask_traits(api, gpu, out, err) < 0)
		return -1;
	return out->mig_enabled ? ask_mig_devices(api, gpu, out, err) : 0;
}

int nvc_nvml_ask(const char *path, struct nvc_nvml_facts *out, struct nvc_error *err)
{
	struct nvml api = {0};

	if (load(&api, path, err) < 0 || ask_driver(&api, out, err) < 0)
		return -1;
	if (out->gpu_count > NVC_NVML_GPUS_MAX)
		return nvc_fail(err, NVC_EDRIVER, "nvmlDeviceGetCount_v2", NULL,
		                "too many devices");
	for (unsigned i = 0; i < out->gpu_count; i++) {
		if (ask_gpu(&api, i, &out->gpus[i], err) < 0)
			return -1;
	}
	return 0; /* NVML stays initialised: the process ends here */
}
