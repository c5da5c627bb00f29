/* SPDX-License-Identifier: Apache-2.0 */
/* Libraries that stand for libnvidia-ml.so.1 and behave, or misbehave, as the macro says that
 * each is compiled with. None needs more than the C library. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

#ifndef GPU_COUNT
#define GPU_COUNT 2
#endif
#ifndef INIT_STATUS
#define INIT_STATUS 0
#endif
#ifndef BRAND
#define BRAND 5
#endif

const char *nvmlErrorString(int status);
int nvmlInit_v2(void);
int nvmlSystemGetDriverVersion(char *text, unsigned size);
int nvmlSystemGetCudaDriverVersion(int *version);
int nvmlDeviceGetCount_v2(unsigned *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **gpu);
int nvmlDeviceGetUUID(void *gpu, char *text, unsigned size);
int nvmlDeviceGetName(void *gpu, char *text, unsigned size);
int nvmlDeviceGetMinorNumber(void *gpu, unsigned *minor);
int nvmlDeviceGetPciInfo(void *gpu, void *info);
int nvmlDeviceGetBrand(void *gpu, unsigned *brand);
int nvmlDeviceGetCudaComputeCapability(void *gpu, int *major, int *minor);
int nvmlDeviceGetMigMode(void *gpu, unsigned *current, unsigned *pending);
int nvmlDeviceGetMaxMigDeviceCount(void *gpu, unsigned *count);
int nvmlDeviceGetMigDeviceHandleByIndex(void *gpu, unsigned index, void **device);
int nvmlDeviceGetGpuInstanceId(void *device, unsigned *id);
int nvmlDeviceGetComputeInstanceId(void *device, unsigned *id);

static unsigned index_of(void *gpu)
{
	return (unsigned)((char *)gpu - (char *)0x1000);
}

EXPORT const char *nvmlErrorString(int status)
{
	return status == 9    ? "Driver Not Loaded"
	       : status == 18 ? "Driver/library version mismatch"
	       : status == 15 ? "GPU is lost"
	                      : "Function Not Found";
}

EXPORT int nvmlInit_v2(void)
{
#ifdef HANG
	sigset_t all;

	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL); /* only SIGKILL helps */
	for (;;)
		(void)pause();
#endif
#ifdef HANG_OPEN
	(void)open(HANG_OPEN, O_RDONLY);
#endif
#ifdef CRASH
	(void)raise(SIGSEGV);
#endif
#ifdef EXIT
	exit(0);
#endif
	return INIT_STATUS;
}

EXPORT int nvmlSystemGetDriverVersion(char *text, unsigned size)
{
	(void)snprintf(text, size, "535.261.03");
#ifdef UNTERMINATED
	memset(text, 'v', size);
#endif
	return 0;
}

EXPORT int nvmlSystemGetCudaDriverVersion(int *version)
{
	*version = 12020;
	return 0;
}

EXPORT int nvmlDeviceGetCount_v2(unsigned *count)
{
	*count = GPU_COUNT;
	return 0;
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **gpu)
{
#ifdef LOST
	if (index == 1)
		return 15;
#endif
	*gpu = (char *)0x1000 + index;
	return 0;
}

EXPORT int nvmlDeviceGetUUID(void *gpu, char *text, unsigned size)
{
	(void)snprintf(text, size, "GPU-%08x-0000-0000-0000-000000000000", index_of(gpu));
#ifdef UNTERMINATED
	memset(text, 'u', size);
#endif
	return 0;
}

#ifdef WITNESS
/* Who and where this process is, one fact a GPU. */
static void tell(unsigned index, char *text, unsigned size)
{
	int groups = getgroups(0, NULL), files = 0;
	struct rlimit core = {1, 1};
	struct sigaction action;
	char directory[64] = "", line[64] = "";
	sigset_t mask;
	FILE *status;

	switch (index) {
	case 0:
		(void)snprintf(text, size, "uid %u %u gid %u %u groups %d", getuid(), geteuid(),
		               getgid(), getegid(), groups);
		break;
	case 1:
		(void)snprintf(text, size, "no_new_privs %d pdeathsig %d",
		               prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
		               prctl(PR_GET_PDEATHSIG, &groups) == 0 ? groups : -1);
		break;
	case 2:
		if (getcwd(directory, sizeof directory) == NULL)
			(void)snprintf(directory, sizeof directory, "errno %d", errno);
		(void)snprintf(text, size, "cwd %s marker %d", directory, access("/marker", F_OK));
		break;
	case 3:
		for (int fd = 3; fd < 1024; fd++)
			files += fcntl(fd, F_GETFD) >= 0;
		(void)snprintf(text, size, "files %d", files);
		break;
	case 4:
		(void)sigaction(SIGUSR1, NULL, &action);
		(void)sigprocmask(SIG_SETMASK, NULL, &mask);
		(void)getrlimit(RLIMIT_CORE, &core);
		(void)snprintf(text, size, "handler %d blocked %d core %lu",
		               action.sa_handler != SIG_DFL, sigismember(&mask, SIGUSR1),
		               (unsigned long)core.rlim_max);
		break;
	case 5:
		status = fopen("/proc/self/status", "re");
		while (status != NULL && fgets(line, sizeof line, status) != NULL) {
			if (strncmp(line, "CapPrm:", 7) == 0 || strncmp(line, "CapEff:", 7) == 0)
				files += strspn(line + 7, "\t0\n") != strlen(line + 7);
		}
		(void)snprintf(text, size, "capabilities %d", status == NULL ? -1 : files);
		break;
	default:
		break;
	}
}
#endif

EXPORT int nvmlDeviceGetName(void *gpu, char *text, unsigned size)
{
	(void)snprintf(text, size, "Fake GPU %u", index_of(gpu));
#ifdef HANG_NAME
	while (index_of(gpu) == 1)
		(void)pause();
#endif
#ifdef CRASH_NAME
	if (index_of(gpu) == 1)
		(void)raise(SIGSEGV);
#endif
#ifdef WITNESS
	tell(index_of(gpu), text, size);
#endif
#ifdef UNTERMINATED
	memset(text, 'n', size);
#endif
	return 0;
}

EXPORT int nvmlDeviceGetMinorNumber(void *gpu, unsigned *minor)
{
	*minor = 7 - index_of(gpu);
	return 0;
}

EXPORT int nvmlDeviceGetPciInfo(void *gpu, void *info)
{
	unsigned numbers[] = {1, 0xab, 0x10 + index_of(gpu)};

	memset(info, 'x', 68);
	memcpy((char *)info + 16, numbers, sizeof numbers);
	return 0;
}

#ifndef MINIMAL
EXPORT int nvmlDeviceGetBrand(void *gpu, unsigned *brand)
{
	*brand = BRAND + index_of(gpu);
	return 0;
}

EXPORT int nvmlDeviceGetCudaComputeCapability(void *gpu, int *major, int *minor)
{
	*major = 8;
	*minor = (int)index_of(gpu);
	return 0;
}

EXPORT int nvmlDeviceGetMigMode(void *gpu, unsigned *current, unsigned *pending)
{
	if (index_of(gpu) == 1)
		return 3;
	*current = 1;
	*pending = 0;
	return 0;
}

#ifdef MIG_COUNT
/* Devices at the odd indices: the others were destroyed. */
EXPORT int nvmlDeviceGetMaxMigDeviceCount(void *gpu, unsigned *count)
{
	(void)gpu;
	*count = MIG_COUNT;
	return 0;
}

EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(void *gpu, unsigned index, void **device)
{
	(void)gpu;
#ifdef MIG_ERROR
	return MIG_ERROR;
#endif
	*device = (char *)0x1000 + 100 + index;
	return index % 2 == 1 ? 0 : 6;
}

EXPORT int nvmlDeviceGetGpuInstanceId(void *device, unsigned *id)
{
	*id = index_of(device) - 90;
	return 0;
}

EXPORT int nvmlDeviceGetComputeInstanceId(void *device, unsigned *id)
{
	*id = index_of(device) - 100;
	return 0;
}
#endif
#endif
