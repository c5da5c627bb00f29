/* SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "smi.h"

int main(int argc, char **argv);

static const char no_library[] =
    "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system. Please make sure that the "
    "NVIDIA Display Driver is properly installed and present in your system.\n"
    "Please also try adding directory that contains libnvidia-ml.so to your system PATH.";

static const char no_driver[] =
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that "
    "the latest NVIDIA driver is installed and running.\n";

static const char lost[] = "GPU is lost.  Reboot the system to recover this GPU";

static const char help[] =
    "NVIDIA System Management Interface (simulated driver)\n"
    "\n"
    "nvidia-smi [OPTION]...\n"
    "\n"
    "    -h,   --help                Print usage information and exit.\n"
    "    -L,   --list-gpus           Display a list of GPUs connected to the system.\n"
    "          --query-gpu=FIELD,... Information about GPUs; needs --format.\n"
    "          --format=csv[,noheader][,nounits]\n"
    "\n"
    "Without options, a table of the GPUs.";

struct options {
	bool help, list;
	const char *fields, *format;
};

static int parse_major(const char *version)
{
	int major = 0;

	for (; *version >= '0' && *version <= '9'; version++)
		major = major * 10 + (*version - '0');
	return major;
}

/* Exit statuses are NVML's numbers, as far as they fit. */
static int exit_status(nvmlReturn_t result)
{
	return (int)result < (int)SMI_OTHER ? (int)result : SMI_OTHER;
}

int smi_open(struct smi *smi)
{
	char driver[NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE] = "";
	void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
	nvmlReturn_t result;

	if (library == NULL) {
		(void)puts(no_library);
		return SMI_NO_LIBRARY;
	}
#define LOAD(function) smi->function = (__typeof__(smi->function))dlsym(library, #function);
	SMI_FUNCTIONS(LOAD)
#undef LOAD
#define CHECK(function) smi->function != NULL &&
	if (!(SMI_FUNCTIONS(CHECK) true)) {
		(void)puts("Failed to initialize NVML: Function Not Found");
		return NVML_ERROR_FUNCTION_NOT_FOUND;
	}
#undef CHECK
	result = smi->nvmlInit_v2();
	if (result == NVML_SUCCESS)
		result = smi->nvmlDeviceGetCount_v2(&smi->count);
	if (result == NVML_SUCCESS)
		result = smi->nvmlSystemGetDriverVersion(driver, sizeof driver);
	smi->release = parse_major(driver);
	if (result == NVML_SUCCESS)
		return SMI_DONE;
	if (result == NVML_ERROR_DRIVER_NOT_LOADED) {
		(void)puts(no_driver);
		return SMI_NO_DRIVER;
	}
	(void)printf("Failed to initialize NVML: %s\n", smi->nvmlErrorString(result));
	return exit_status(result);
}

const char *smi_gpu_word(const struct smi *smi)
{
	return smi->release >= 525 ? "GPU" : "GPU ";
}

int smi_find_gpu(const struct smi *smi, unsigned int index, const char *word, nvmlDevice_t *gpu)
{
	nvmlPciInfo_t pci = {0};
	const char *text;
	nvmlReturn_t result;

	*gpu = NULL;
	result = smi->nvmlDeviceGetHandleByIndex_v2(index, gpu);
	if (result == NVML_SUCCESS)
		return SMI_DONE;
	text = result == NVML_ERROR_GPU_IS_LOST ? lost : smi->nvmlErrorString(result);
	(void)smi->nvmlDeviceGetPciInfo_v3(*gpu, &pci);
	(void)printf("Unable to determine the device handle for %s%s: %s\n", word, pci.busIdLegacy,
	             text);
	return exit_status(result);
}

/* Of a name like "NVIDIA A100-SXM4-40GB MIG 1g.5gb" what follows the GPU's. */
static const char *slice(const char *name)
{
	const char *found = strstr(name, " MIG ");

	return found == NULL ? name : found + strlen(" MIG ");
}

static void print_migs(const struct smi *smi, nvmlDevice_t gpu)
{
	unsigned int most = 0;

	(void)smi->nvmlDeviceGetMaxMigDeviceCount(gpu, &most);
	for (unsigned int i = 0; i < most; i++) {
		nvmlDevice_t mig;
		char name[NVML_DEVICE_NAME_V2_BUFFER_SIZE], uuid[NVML_DEVICE_UUID_V2_BUFFER_SIZE];

		if (smi->nvmlDeviceGetMigDeviceHandleByIndex(gpu, i, &mig) != NVML_SUCCESS)
			continue;
		smi_value(smi, mig, "name", name, sizeof name);
		smi_value(smi, mig, "uuid", uuid, sizeof uuid);
		(void)printf("  MIG %-11s Device %2u: (UUID: %s)\n", slice(name), i, uuid);
	}
}

int smi_print_list(const struct smi *smi)
{
	int status = SMI_DONE;

	for (unsigned int i = 0; i < smi->count; i++) {
		nvmlDevice_t gpu;
		char name[NVML_DEVICE_NAME_V2_BUFFER_SIZE], uuid[NVML_DEVICE_UUID_V2_BUFFER_SIZE];
		int found = smi_find_gpu(smi, i, "gpu ", &gpu);

		if (found != SMI_DONE) {
			status = found;
			continue;
		}
		smi_value(smi, gpu, "name", name, sizeof name);
		smi_value(smi, gpu, "uuid", uuid, sizeof uuid);
		(void)printf("GPU %u: %s (UUID: %s)\n", i, name, uuid);
		print_migs(smi, gpu);
	}
	return status;
}

static bool parse(int argc, char **argv, struct options *options)
{
	for (int i = 1; i < argc; i++) {
		const char *word = argv[i];

		if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0)
			options->help = true;
		else if (strcmp(word, "-L") == 0 || strcmp(word, "--list-gpus") == 0)
			options->list = true;
		else if (strncmp(word, "--query-gpu=", 12) == 0)
			options->fields = word + 12;
		else if (strncmp(word, "--format=", 9) == 0)
			options->format = word + 9;
		else
			return false;
	}
	if (options->list && (options->fields != NULL || options->format != NULL))
		return false;
	return (options->fields == NULL) == (options->format == NULL);
}

static int run(const struct options *options)
{
	struct smi smi;
	int status = SMI_DONE;

	if (options->fields != NULL)
		status = smi_check_query(options->fields, options->format);
	if (status == SMI_DONE)
		status = smi_open(&smi);
	if (status != SMI_DONE)
		return status;
	if (smi.count == 0) {
		(void)puts("No devices were found");
		status = SMI_NO_DEVICES;
	} else if (options->list) {
		status = smi_print_list(&smi);
	} else if (options->fields != NULL) {
		status = smi_print_query(&smi, options->fields, options->format);
	} else {
		status = smi_print_table(&smi);
	}
	(void)smi.nvmlShutdown();
	return status;
}

int main(int argc, char **argv)
{
	struct options options = {0};

	if (!parse(argc, argv, &options)) {
		(void)puts("Invalid combination of input arguments. "
		           "Please run 'nvidia-smi -h' for help.\n");
		return SMI_USAGE;
	}
	if (options.help) {
		(void)puts(help);
		return SMI_DONE;
	}
	return run(&options);
}
