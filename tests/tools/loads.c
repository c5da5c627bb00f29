// SPDX-License-Identifier: Apache-2.0
/*
 * Load libraries, one after the other, and say of each: "NAME: ok" or "NAME: what is missing".
 * Then count the GPUs that NVML finds: "GPUs: N".
 */
#include <dlfcn.h>
#include <stdio.h>

typedef int (*init_function)(void);
typedef int (*count_function)(unsigned int *count);

static void count_gpus(void *nvml)
{
	init_function init = (init_function)dlsym(nvml, "nvmlInit_v2");
	count_function get = (count_function)dlsym(nvml, "nvmlDeviceGetCount_v2");
	unsigned int count = 0;
	if (init && get && init() == 0 && get(&count) == 0)
		printf("GPUs: %u\n", count);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		printf("%s: %s\n", argv[i], dlopen(argv[i], RTLD_NOW | RTLD_LOCAL) ? "ok" : dlerror());
	void *nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW);
	if (nvml)
		count_gpus(nvml);
	return 0;
}
