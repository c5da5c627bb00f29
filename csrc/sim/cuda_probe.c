/* SPDX-License-Identifier: Apache-2.0 */
/* A small client of CUDA's driver API: prints the devices it can use, one line each. Exit status 1
 * and a message on failure. Works with a real driver too. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "cuda_abi.h"

int main(int argc, char **argv);

#define FUNCTIONS(X)                                                                               \
	X(cuInit)                                                                                  \
	X(cuGetErrorName)                                                                          \
	X(cuGetErrorString)                                                                        \
	X(cuDriverGetVersion)                                                                      \
	X(cuDeviceGetCount)                                                                        \
	X(cuDeviceGet)                                                                             \
	X(cuDeviceGetName)                                                                         \
	X(cuDeviceGetUuid_v2)                                                                       \
	X(cuDeviceGetPCIBusId)                                                                     \
	X(cuDeviceTotalMem_v2)                                                                     \
	X(cuDeviceGetAttribute)

#define MEMBER(function) __typeof__(&function) function;

struct cuda {
	FUNCTIONS(MEMBER)
};

static int load(struct cuda *cuda)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW);

	if (library == NULL) {
		(void)printf("%s\n", dlerror());
		return -1;
	}
#define LOAD(function) cuda->function = (__typeof__(cuda->function))dlsym(library, #function);
	FUNCTIONS(LOAD)
#undef LOAD
#define MISSING(function) cuda->function == NULL ||
	if (FUNCTIONS(MISSING) 0) {
		(void)printf("libcuda.so.1: not a CUDA driver\n");
		return -1;
	}
#undef MISSING
	return 0;
}

static int check(const struct cuda *cuda, const char *call, CUresult result)
{
	const char *name = NULL, *text = NULL;

	if (result == CUDA_SUCCESS)
		return 0;
	(void)cuda->cuGetErrorName(result, &name);
	(void)cuda->cuGetErrorString(result, &text);
	(void)printf("%s: %s (%d): %s\n", call, name != NULL ? name : "error", (int)result,
	             text != NULL ? text : "no text");
	return -1;
}

#define CHECK(cuda, function, ...) check(cuda, #function, (cuda)->function(__VA_ARGS__))

static void format_uuid(const char *prefix, const CUuuid *uuid, char text[41])
{
	static const char digits[] = "0123456789abcdef";
	char *p = text;

	for (; *prefix != '\0'; prefix++)
		*p++ = *prefix;
	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = digits[(unsigned char)uuid->bytes[i] >> 4];
		*p++ = digits[(unsigned char)uuid->bytes[i] & 0xf];
	}
	*p = '\0';
}

static int print_device(const struct cuda *cuda, int ordinal)
{
	CUdevice device = 0;
	char name[96] = "", bus[16] = "", uuid[41];
	CUuuid bytes = {{0}};
	size_t memory = 0;
	int major = 0, minor = 0;

	if (CHECK(cuda, cuDeviceGet, &device, ordinal) != 0 ||
	    CHECK(cuda, cuDeviceGetName, name, sizeof name, device) != 0 ||
	    CHECK(cuda, cuDeviceGetUuid_v2, &bytes, device) != 0 ||
	    CHECK(cuda, cuDeviceGetPCIBusId, bus, sizeof bus, device) != 0 ||
	    CHECK(cuda, cuDeviceTotalMem_v2, &memory, device) != 0 ||
	    CHECK(cuda, cuDeviceGetAttribute, &major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
	          device) != 0 ||
	    CHECK(cuda, cuDeviceGetAttribute, &minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
	          device) != 0)
		return -1;
	format_uuid(strstr(name, " MIG ") != NULL ? "MIG-" : "GPU-", &bytes, uuid);
	(void)printf("device %d: %s, %s, %s, %zu MiB, compute capability %d.%d\n", ordinal, name,
	             uuid, bus, memory / (1024 * 1024), major, minor);
	return 0;
}

int main(int argc, char **argv)
{
	struct cuda cuda;
	int version = 0, count = 0;

	(void)argc;
	(void)argv;
	if (load(&cuda) != 0 || CHECK(&cuda, cuInit, 0) != 0 ||
	    CHECK(&cuda, cuDriverGetVersion, &version) != 0 ||
	    CHECK(&cuda, cuDeviceGetCount, &count) != 0)
		return 1;
	(void)printf("CUDA driver API %d.%d: %d device%s\n", version / 1000, version % 1000 / 10,
	             count, count == 1 ? "" : "s");
	for (int i = 0; i < count; i++) {
		if (print_device(&cuda, i) != 0)
			return 1;
	}
	return 0;
}
