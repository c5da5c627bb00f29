/* SPDX-License-Identifier: Apache-2.0 */
#include "sim_devices.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

int sim_open_node(const char *path, uint32_t major, uint32_t minor)
{
	struct stat st;
	int fd;

	/* The system call itself: glibc exports no stat() before 2.33. */
	if (syscall(SYS_newfstatat, AT_FDCWD, path, &st, 0) != 0)
		return errno;
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(major, minor))
		return ENODEV;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return errno;
	(void)close(fd);
	return 0;
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
