/* SPDX-License-Identifier: Apache-2.0 */
#include "sim_devices.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Open a character device node. Returns the errno of open (0: there really is such a device), or of
 * stat, or ENODEV for a node with another number. */
static int open_node(const char *path, uint32_t major, uint32_t minor, int flags)
{
	struct stat st;
	int fd;

	/* The system call itself: glibc exports no stat() before 2.33. */
	if (syscall(SYS_newfstatat, AT_FDCWD, path, &st, 0) != 0)
		return errno;
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(major, minor))
		return ENODEV;
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		return errno;
	(void)close(fd);
	return 0;
}

int sim_open_node(const char *path, uint32_t major, uint32_t minor)
{
	return open_node(path, major, minor, O_RDWR);
}

int sim_open_control(void)
{
	return sim_open_node("/dev/nvidiactl", SIM_NVIDIA_MAJOR, SIM_CTL_MINOR);
}

uint32_t sim_usable_gpus(const struct sim_gpu *found[SIM_MAX_GPUS])
{
	const struct sim_config *config = sim_config();
	uint32_t count = 0;

	for (uint32_t i = 0; i < config->gpu_count && i < SIM_MAX_GPUS; i++) {
		const struct sim_gpu *gpu = &config->gpus[i];
		char path[32];

		(void)snprintf(path, sizeof path, "/dev/nvidia%u", gpu->minor);
		if (sim_open_node(path, SIM_NVIDIA_MAJOR, gpu->minor) == ENXIO)
			found[count++] = gpu;
	}
	return count;
}

/* Whether a MIG capability is ours: by its device, or by its file where the module has files only.
 * Both are read-only for everybody. */
static int may_use(const char *file, uint32_t minor)
{
	uint32_t major = sim_config()->caps_major;
	char path[64];
	int fd;

	if (major != 0) {
		(void)snprintf(path, sizeof path, "/dev/nvidia-caps/nvidia-cap%u", minor);
		return open_node(path, major, minor, O_RDONLY) == ENXIO;
	}
	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	(void)close(fd);
	return 1;
}

static int mig_usable(const struct sim_gpu *gpu, const struct sim_mig *mig)
{
	char file[96];

	(void)snprintf(file, sizeof file, "/proc/driver/nvidia/capabilities/gpu%u/mig/gi%u/access",
	               gpu->minor, mig->gpu_instance);
	if (!may_use(file, mig->gpu_capability))
		return 0;
	(void)snprintf(file, sizeof file,
	               "/proc/driver/nvidia/capabilities/gpu%u/mig/gi%u/ci%u/access", gpu->minor,
	               mig->gpu_instance, mig->compute_instance);
	return may_use(file, mig->compute_capability);
}

uint32_t sim_usable_migs(const struct sim_gpu *gpu, const struct sim_mig *found[SIM_MAX_MIGS])
{
	const struct sim_config *config = sim_config();
	uint32_t count = 0;

	if (gpu->mig_mode == 0)
		return 0;
	for (uint32_t i = 0; i < config->mig_count && i < SIM_MAX_MIGS; i++) {
		const struct sim_mig *mig = &config->migs[i];

		if (gpu == &config->gpus[mig->gpu] && mig_usable(gpu, mig))
			found[count++] = mig;
	}
	return count;
}

void sim_format_mig(const struct sim_gpu *gpu, const struct sim_mig *mig, char *text, size_t size)
{
	(void)snprintf(text, size, "%s MIG %s", gpu->name, mig->slice);
}

int sim_gpu_lost(const struct sim_gpu *gpu)
{
	const struct sim_config *config = sim_config();

	return config->fault == SIM_FAULT_GPU_LOST && config->fault_code < SIM_MAX_GPUS &&
	       gpu == &config->gpus[config->fault_code];
}

void sim_format_pci(const struct sim_gpu *gpu, char *text, size_t size)
{
	(void)snprintf(text, size, "%08X:%02X:%02X.0", gpu->pci_domain, gpu->pci_bus,
	               gpu->pci_device);
}

/* Read a hexadecimal number that `end` follows. */
static const char *parse_hex(const char *text, char end, uint32_t *value)
{
	const char *p = text;

	*value = 0;
	for (; *p != end; p++) {
		uint32_t digit;

		if (*p >= '0' && *p <= '9')
			digit = (uint32_t)(*p - '0');
		else if ((*p | 0x20) >= 'a' && (*p | 0x20) <= 'f')
			digit = (uint32_t)((*p | 0x20) - 'a' + 10);
		else
			return NULL;
		if (*value > UINT32_MAX >> 4)
			return NULL;
		*value = *value << 4 | digit;
	}
	return p > text ? p + 1 : NULL;
}

int sim_parse_pci(const char *text, uint32_t *domain, uint32_t *bus, uint32_t *device)
{
	uint32_t function = 0;
	const char *rest = parse_hex(text, ':', domain);
	const char *after = rest == NULL ? NULL : parse_hex(rest, ':', bus);

	if (rest == NULL)
		return -1;
	if (after == NULL) { /* without a domain */
		*bus = *domain;
		*domain = 0;
		after = rest;
	}
	rest = parse_hex(after, '.', device);
	if (rest == NULL || parse_hex(rest, '\0', &function) == NULL || function != 0)
		return -1;
	return 0;
}
