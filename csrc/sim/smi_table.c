/* SPDX-License-Identifier: Apache-2.0 */
/* nvidia-smi without options: the table, in the three layouts that the simulated releases have.
 * Release 530 made the left column wider and 550 the middle one, which moves nearly everything. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "smi.h"

#define RIGHT_COLUMN 22

struct layout {
	int left, middle; /* widths of these columns */
	int smi, driver;  /* room for the versions */
	int name;         /* room for a GPU's name */
	int gap;          /* between name and persistence mode */
	int power, limit; /* room for the power drawn and its limit */
	int bus_gap;      /* before the PCI address */
	int used, memory; /* room for the memory in use and all of it */
	int process_name; /* room for a process's name */
	const char *left1, *left2, *middle1, *middle2;
};

static const struct layout old_layout = {
    .left = 31,
    .middle = 22,
    .smi = 13,
    .driver = 13,
    .name = 18,
    .gap = 2,
    .power = 7,
    .limit = 4,
    .bus_gap = 1,
    .used = 7,
    .memory = 5,
    .process_name = 20,
    .left1 = " GPU  Name        Persistence-M",
    .left2 = " Fan  Temp  Perf  Pwr:Usage/Cap",
    .middle1 = " Bus-Id        Disp.A ",
    .middle2 = "         Memory-Usage ",
};

static const struct layout wide_layout = {
    .left = 41,
    .middle = 22,
    .smi = 23,
    .driver = 13,
    .name = 27,
    .gap = 4,
    .power = 17,
    .limit = 4,
    .bus_gap = 1,
    .used = 7,
    .memory = 5,
    .process_name = 30,
    .left1 = " GPU  Name                 Persistence-M ",
    .left2 = " Fan  Temp   Perf          Pwr:Usage/Cap ",
    .middle1 = " Bus-Id        Disp.A ",
    .middle2 = "         Memory-Usage ",
};

static const struct layout wider_layout = {
    .left = 41,
    .middle = 24,
    .smi = 23,
    .driver = 15,
    .name = 27,
    .gap = 4,
    .power = 16,
    .limit = 5,
    .bus_gap = 3,
    .used = 8,
    .memory = 6,
    .process_name = 32,
    .left1 = " GPU  Name                 Persistence-M ",
    .left2 = " Fan  Temp   Perf          Pwr:Usage/Cap ",
    .middle1 = " Bus-Id          Disp.A ",
    .middle2 = "           Memory-Usage ",
};

static void repeat(char c, int count)
{
	while (count-- > 0)
		(void)printf("%c", c);
}

/* A line across all columns, with `joint` between them. */
static void rule(const struct layout *layout, char start, char fill, char joint, char end)
{
	(void)printf("%c", start);
	repeat(fill, layout->left);
	(void)printf("%c", joint);
	repeat(fill, layout->middle);
	(void)printf("%c", joint);
	repeat(fill, RIGHT_COLUMN);
	(void)printf("%c\n", end);
}

static void columns(const struct layout *layout, const char *left, const char *middle,
                    const char *right)
{
	(void)printf("|%-*s|%-*s|%-*s|\n", layout->left, left, layout->middle, middle, RIGHT_COLUMN,
	             right);
}

static void print_banner(const struct smi *smi, const struct layout *layout)
{
	char driver[NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE] = "";
	char nvml[NVML_SYSTEM_NVML_VERSION_BUFFER_SIZE] = "", cuda[16];
	const char *own;
	int number = 0;

	(void)smi->nvmlSystemGetDriverVersion(driver, sizeof driver);
	(void)smi->nvmlSystemGetNVMLVersion(nvml, sizeof nvml);
	(void)smi->nvmlSystemGetCudaDriverVersion_v2(&number);
	(void)snprintf(cuda, sizeof cuda, "%d.%d", number / 1000, number % 1000 / 10);
	own = strchr(nvml, '.'); /* "12.535.261.03": NVML's major number, then the driver's */
	rule(layout, '+', '-', '-', '+');
	(void)printf("| NVIDIA-SMI %-*sDriver Version: %-*sCUDA Version: %-9s|\n", layout->smi,
	             own == NULL ? driver : own + 1, layout->driver, driver, cuda);
	rule(layout, '|', '-', '+', '+');
	columns(layout, layout->left1, layout->middle1, " Volatile Uncorr. ECC ");
	columns(layout, layout->left2, layout->middle2, " GPU-Util  Compute M. ");
	columns(layout, "", "", "               MIG M. ");
	rule(layout, '|', '=', '+', '|');
}

/* "Enabled" as "On", a value that is not there as it is. */
static const char *on_off(const char *text)
{
	if (strcmp(text, "Enabled") == 0)
		return "On";
	return strcmp(text, "Disabled") == 0 ? "Off" : text;
}

static void print_first_line(const struct smi *smi, const struct layout *layout, nvmlDevice_t gpu)
{
	char index[12], name[NVML_DEVICE_NAME_V2_BUFFER_SIZE], persistence[16], bus[40], active[16];
	char ecc[24], left[128], middle[64], right[64];

	smi_value(smi, gpu, "index", index, sizeof index);
	smi_value(smi, gpu, "name", name, sizeof name);
	smi_value(smi, gpu, "persistence_mode", persistence, sizeof persistence);
	smi_value(smi, gpu, "pci.bus_id", bus, sizeof bus);
	smi_value(smi, gpu, "display_active", active, sizeof active);
	smi_value(smi, gpu, "ecc.errors.uncorrected.volatile.total", ecc, sizeof ecc);
	if (strlen(name) > (size_t)layout->name)
		memcpy(name + layout->name - 3, "...", sizeof "...");
	(void)snprintf(left, sizeof left, "%4s  %-*s%*s%-3s", index, layout->name, name,
	               layout->gap, "", on_off(persistence));
	(void)snprintf(middle, sizeof middle, "%*s%s %3s", layout->bus_gap, "", bus,
	               on_off(active));
	(void)snprintf(right, sizeof right, " %20s", ecc);
	columns(layout, left, middle, right);
}

/* Whole watts, as the table has them. */
static void format_power(nvmlReturn_t result, unsigned int milliwatts, char *text, size_t size)
{
	if (result == NVML_SUCCESS)
		(void)snprintf(text, size, "%uW", (milliwatts + 500) / 1000);
	else
		(void)snprintf(text, size, result == NVML_ERROR_NOT_SUPPORTED ? "N/A" : "ERR!");
}

/* A value with its unit, where there is one. */
static void percent(const struct smi *smi, nvmlDevice_t gpu, const char *field, char text[16])
{
	smi_value(smi, gpu, field, text, 16 - 1);
	if (text[0] >= '0' && text[0] <= '9')
		memcpy(text + strlen(text), "%", sizeof "%");
}

static void format_sensors(const struct smi *smi, const struct layout *layout, nvmlDevice_t gpu,
                           char *left, size_t size)
{
	char fan[16], temperature[16], pstate[16], usage[16], limit[16];
	unsigned int drawn = 0, cap = 0;
	nvmlReturn_t drawn_result = smi->nvmlDeviceGetPowerUsage(gpu, &drawn);
	nvmlReturn_t cap_result = smi->nvmlDeviceGetPowerManagementLimit(gpu, &cap);

	percent(smi, gpu, "fan.speed", fan);
	smi_value(smi, gpu, "temperature.gpu", temperature, sizeof temperature);
	smi_value(smi, gpu, "pstate", pstate, sizeof pstate);
	format_power(drawn_result, drawn, usage, sizeof usage);
	format_power(cap_result, cap, limit, sizeof limit);
	(void)snprintf(left, size, " %3s  %3sC  %4s%*s / %*s", fan, temperature, pstate,
	               layout->power, usage, layout->limit, limit);
}

static void print_second_line(const struct smi *smi, const struct layout *layout, nvmlDevice_t gpu)
{
	char used[16], total[16], busy[16], mode[32], left[128], middle[64], right[64];

	format_sensors(smi, layout, gpu, left, sizeof left);
	smi_value(smi, gpu, "memory.used", used, sizeof used);
	smi_value(smi, gpu, "memory.total", total, sizeof total);
	percent(smi, gpu, "utilization.gpu", busy);
	smi_value(smi, gpu, "compute_mode", mode, sizeof mode);
	(void)snprintf(middle, sizeof middle, "%*sMiB / %*sMiB", layout->used, used, layout->memory,
	               total);
	(void)snprintf(right, sizeof right, "%8s %12.12s", busy, mode);
	columns(layout, left, middle, right);
}

static void print_gpu(const struct smi *smi, const struct layout *layout, nvmlDevice_t gpu)
{
	char mig[16], right[64];

	print_first_line(smi, layout, gpu);
	print_second_line(smi, layout, gpu);
	smi_value(smi, gpu, "mig.mode.current", mig, sizeof mig);
	(void)snprintf(right, sizeof right, " %20s", mig);
	columns(layout, "", "", right);
	rule(layout, '+', '-', '+', '+');
}

static void print_processes(const struct layout *layout)
{
	int inside = layout->left + layout->middle + RIGHT_COLUMN + 2;

	repeat(' ', inside + 2);
	(void)printf("\n");
	rule(layout, '+', '-', '-', '+');
	(void)printf("|%-*s|\n", inside, " Processes:");
	(void)printf("|  GPU   GI   CI        PID   Type   %-*sGPU Memory |\n",
	             layout->process_name + 10, "Process name");
	(void)printf("|        ID   ID                     %-*sUsage      |\n",
	             layout->process_name + 10, "");
	rule(layout, '|', '=', '=', '|');
	(void)printf("|%-*s|\n", inside, "  No running processes found");
	rule(layout, '+', '-', '-', '+');
}

static const struct layout *find_layout(const struct smi *smi)
{
	if (smi->release >= 550)
		return &wider_layout;
	return smi->release >= 530 ? &wide_layout : &old_layout;
}

/* With one GPU lost there is no table, only the message. */
static int check_gpus(const struct smi *smi)
{
	nvmlDevice_t gpu;
	int status = SMI_DONE;

	for (unsigned int i = 0; i < smi->count && status == SMI_DONE; i++)
		status = smi_find_gpu(smi, i, smi_gpu_word(smi), &gpu);
	return status;
}

int smi_print_table(const struct smi *smi)
{
	char when[32] = "";
	time_t now = time(NULL);
	const struct layout *layout = find_layout(smi);
	int status = check_gpus(smi);

	if (status != SMI_DONE)
		return status;
	(void)ctime_r(&now, when); /* "Mon Nov 23 12:00:00 2026\n" */
	(void)printf("%-24.24s       \n", when);
	print_banner(smi, layout);
	for (unsigned int i = 0; i < smi->count; i++) {
		nvmlDevice_t gpu;

		if (smi->nvmlDeviceGetHandleByIndex_v2(i, &gpu) != NVML_SUCCESS)
			return SMI_OTHER;
		print_gpu(smi, layout, gpu);
	}
	print_processes(layout);
	return SMI_DONE;
}
