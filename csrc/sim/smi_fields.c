/* SPDX-License-Identifier: Apache-2.0 */
/* The values that nvidia-smi knows by name. */
#include <stdio.h>
#include <string.h>

#include "smi.h"

#define MIB (1024u * 1024u)

static nvmlReturn_t put_uint(nvmlReturn_t result, unsigned int value, char *text, size_t size)
{
	if (result == NVML_SUCCESS)
		(void)snprintf(text, size, "%u", value);
	return result;
}

static nvmlReturn_t put_milli(nvmlReturn_t result, unsigned int value, char *text, size_t size)
{
	if (result == NVML_SUCCESS)
		(void)snprintf(text, size, "%u.%02u", value / 1000, value % 1000 / 10);
	return result;
}

static nvmlReturn_t put_enabled(nvmlReturn_t result, bool enabled, char *text, size_t size)
{
	if (result == NVML_SUCCESS)
		(void)snprintf(text, size, "%s", enabled ? "Enabled" : "Disabled");
	return result;
}

static nvmlReturn_t get_count(const struct smi *smi, nvmlDevice_t gpu, char *text, size_t size)
{
	(void)gpu;
	return put_uint(NVML_SUCCESS, smi->count, text, size);
}

static nvmlReturn_t get_driver(const struct smi *smi, nvmlDevice_t gpu, char *text, size_t size)
{
	(void)gpu;
	return smi->nvmlSystemGetDriverVersion(text, (unsigned int)size);
}

static nvmlReturn_t get_index(const struct smi *smi, nvmlDevice_t gpu, char *text, size_t size)
{
	unsigned int index = 0;
	nvmlReturn_t result = smi->nvmlDeviceGetIndex(gpu, &index);

	return put_uint(result, index, text, size);
}

static nvmlReturn_t get_name(const struct smi *smi, nvmlDevice_t gpu, char *text, size_t size)
{
	return smi->nvmlDeviceGetName(gpu, text, (unsigned int)size);
}

static nvmlReturn_t get_uuid(const struct smi *smi, nvmlDevice_t gpu, char *text, size_t size)
{
	return smi->nvmlDeviceGetUUID(gpu, text, (unsigned int)size);
}

static nvmlReturn_t get_vbios(const struct smi *smi, nvmlDevice_t gpu, char *text, size_t size)
{
	return smi->nvmlDeviceGetVbiosVersion(gpu, text, (unsigned int)size);
}

static nvmlReturn_t get_pci(const struct smi *smi, nvmlDevice_t gpu, char *text, size_t size)
{
	nvmlPciInfo_t pci;
	nvmlReturn_t result = smi->nvmlDeviceGetPciInfo_v3(gpu, &pci);

	if (result == NVML_SUCCESS)
		(void)snprintf(text, size, "%s", pci.busId);
	return result;
}

#define PCI_NUMBER(function, member, digits)                                                       \
	static nvmlReturn_t function(const struct smi *smi, nvmlDevice_t gpu, char *text,          \
	                             size_t size)                                                  \
	{                                                                                          \
		nvmlPciInfo_t pci;                                                                 \
		nvmlReturn_t result = smi->nvmlDeviceGetPciInfo_v3(gpu, &pci);                     \
                                                                                                   \
		if (result == NVML_SUCCESS)                                                        \
			(void)snprintf(text, size, "0x%0" #digits "X", pci.member);                \
		return result;                                                                     \
	}

PCI_NUMBER(get_pci_domain, domain, 4)
PCI_NUMBER(get_pci_bus, bus, 2)
PCI_NUMBER(get_pci_device, device, 2)
PCI_NUMBER(get_pci_device_id, pciDeviceId, 8)
PCI_NUMBER(get_pci_subsystem, pciSubSystemId, 8)

static nvmlReturn_t get_compute(const struct smi *smi, nvmlDevice_t gpu, char *text, size_t size)
{
	int major = 0, minor = 0;
	nvmlReturn_t result = smi->nvmlDeviceGetCudaComputeCapability(gpu, &major, &minor);

	if (result == NVML_SUCCESS)
		(void)snprintf(text, size, "%d.%d", major, minor);
	return result;
}

#define MEMORY(function, member)                                                                   \
	static nvmlReturn_t function(const struct smi *smi, nvmlDevice_t gpu, char *text,          \
	                             size_t size)                                                  \
	{                                                                                          \
		nvmlMemory_v2_t memory = {.version = nvmlMemory_v2};                               \
		nvmlReturn_t result = smi->nvmlDeviceGetMemoryInfo_v2(gpu, &memory);               \
                                                                                                   \
		return put_uint(result, (unsigned int)(memory.member / MIB), text, size);          \
	}

MEMORY(get_memory_total, total)
MEMORY(get_memory_reserved, reserved)
MEMORY(get_memory_used, used)
MEMORY(get_memory_free, free)

#define UTILIZATION(function, member)                                                              \
	static nvmlReturn_t function(const struct smi *smi, nvmlDevice_t gpu, char *text,          \
	                             size_t size)                                                  \
	{                                                                                          \
		nvmlUtilization_t rates = {0};                                                     \
		nvmlReturn_t result = smi->nvmlDeviceGetUtilizationRates(gpu, &rates);             \
                                                                                                   \
		return put_uint(result, rates.member, text, size);                                 \
	}

UTILIZATION(get_utilization_gpu, gpu)
UTILIZATION(get_utilization_memory, memory)

static nvmlReturn_t get_temperature(const struct smi *smi, nvmlDevice_t gpu, char *text,
                                    size_t size)
{
	unsigned int degrees = 0;
	nvmlReturn_t result = smi->nvmlDeviceGetTemperature(gpu, NVML_TEMPERATURE_GPU, &degrees);

	return put_uint(result, degrees, text, size);
}

static nvmlReturn_t get_fan(const struct smi *smi, nvmlDevice_t gpu, char *text, size_t size)
{
	unsigned int percent = 0;
	nvmlReturn_t result = smi->nvmlDeviceGetFanSpeed(gpu, &percent);

	return put_uint(result, percent, text, size);
}

static nvmlReturn_t get_power(const struct smi *smi, nvmlDevice_t gpu, char *text, size_t size)
{
	unsigned int power = 0;
	nvmlReturn_t result = smi->nvmlDeviceGetPowerUsage(gpu, &power);

	return put_milli(result, power, text, size);
}

static nvmlReturn_t get_limit(const struct smi *smi, nvmlDevice_t gpu, char *text, size_t size)
{
	unsigned int limit = 0;
	nvmlReturn_t result = smi->nvmlDeviceGetPowerManagementLimit(gpu, &limit);

	return put_milli(result, limit, text, size);
}

static nvmlReturn_t get_enforced(const struct smi *smi, nvmlDevice_t gpu, char *text, size_t size)
{
	unsigned int limit = 0;
	nvmlReturn_t result = smi->nvmlDeviceGetEnforcedPowerLimit(gpu, &limit);

	return put_milli(result, limit, text, size);
}

static nvmlReturn_t get_pstate(const struct smi *smi, nvmlDevice_t gpu, char *text, size_t size)
{
	nvmlPstates_t state = NVML_PSTATE_UNKNOWN;
	nvmlReturn_t result = smi->nvmlDeviceGetPerformanceState(gpu, &state);

	if (result == NVML_SUCCESS)
		(void)snprintf(text, size, "P%d", (int)state);
	return result;
}

static nvmlReturn_t get_compute_mode(const struct smi *smi, nvmlDevice_t gpu, char *text,
                                     size_t size)
{
	static const char *const names[] = {"Default", "Exclusive_Thread", "Prohibited",
	                                    "Exclusive_Process"};
	nvmlComputeMode_t mode = NVML_COMPUTEMODE_DEFAULT;
	nvmlReturn_t result = smi->nvmlDeviceGetComputeMode(gpu, &mode);

	if (result == NVML_SUCCESS)
		(void)snprintf(text, size, "%s", mode < 4 ? names[mode] : "Unknown");
	return result;
}

#define ENABLED(function, query)                                                                   \
	static nvmlReturn_t function(const struct smi *smi, nvmlDevice_t gpu, char *text,          \
	                             size_t size)                                                  \
	{                                                                                          \
		nvmlEnableState_t state = NVML_FEATURE_DISABLED;                                   \
		nvmlReturn_t result = smi->query(gpu, &state);                                     \
                                                                                                   \
		return put_enabled(result, state == NVML_FEATURE_ENABLED, text, size);             \
	}

ENABLED(get_persistence, nvmlDeviceGetPersistenceMode)
ENABLED(get_display_mode, nvmlDeviceGetDisplayMode)
ENABLED(get_display_active, nvmlDeviceGetDisplayActive)

/* Two modes at once: the current one and that after a reset. */
#define ENABLED_TWICE(current_function, pending_function, type, query)                             \
	static nvmlReturn_t current_function(const struct smi *smi, nvmlDevice_t gpu, char *text,  \
	                                     size_t size)                                          \
	{                                                                                          \
		type current = 0, pending = 0;                                                     \
		nvmlReturn_t result = smi->query(gpu, &current, &pending);                         \
                                                                                                   \
		return put_enabled(result, current != 0, text, size);                              \
	}                                                                                          \
	static nvmlReturn_t pending_function(const struct smi *smi, nvmlDevice_t gpu, char *text,  \
	                                     size_t size)                                          \
	{                                                                                          \
		type current = 0, pending = 0;                                                     \
		nvmlReturn_t result = smi->query(gpu, &current, &pending);                         \
                                                                                                   \
		return put_enabled(result, pending != 0, text, size);                              \
	}

ENABLED_TWICE(get_ecc, get_ecc_pending, nvmlEnableState_t, nvmlDeviceGetEccMode)
ENABLED_TWICE(get_mig, get_mig_pending, unsigned int, nvmlDeviceGetMigMode)

static nvmlReturn_t get_ecc_errors(const struct smi *smi, nvmlDevice_t gpu, char *text, size_t size)
{
	unsigned long long errors = 0;
	nvmlReturn_t result = smi->nvmlDeviceGetTotalEccErrors(
	    gpu, NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC, &errors);

	return put_uint(result, (unsigned int)errors, text, size);
}

static const struct smi_field known_fields[] = {
    {"count", NULL, NULL, get_count},
    {"driver_version", NULL, NULL, get_driver},
    {"index", NULL, NULL, get_index},
    {"name", "gpu_name", NULL, get_name},
    {"uuid", "gpu_uuid", NULL, get_uuid},
    {"vbios_version", NULL, NULL, get_vbios},
    {"pci.bus_id", "gpu_bus_id", NULL, get_pci},
    {"pci.domain", NULL, NULL, get_pci_domain},
    {"pci.bus", NULL, NULL, get_pci_bus},
    {"pci.device", NULL, NULL, get_pci_device},
    {"pci.device_id", NULL, NULL, get_pci_device_id},
    {"pci.sub_device_id", NULL, NULL, get_pci_subsystem},
    {"compute_cap", NULL, NULL, get_compute},
    {"compute_mode", NULL, NULL, get_compute_mode},
    {"persistence_mode", NULL, NULL, get_persistence},
    {"display_mode", NULL, NULL, get_display_mode},
    {"display_active", NULL, NULL, get_display_active},
    {"pstate", NULL, NULL, get_pstate},
    {"fan.speed", NULL, "%", get_fan},
    {"temperature.gpu", NULL, NULL, get_temperature},
    {"power.draw", NULL, "W", get_power},
    {"power.limit", NULL, "W", get_limit},
    {"enforced.power.limit", NULL, "W", get_enforced},
    {"memory.total", NULL, "MiB", get_memory_total},
    {"memory.reserved", NULL, "MiB", get_memory_reserved},
    {"memory.used", NULL, "MiB", get_memory_used},
    {"memory.free", NULL, "MiB", get_memory_free},
    {"utilization.gpu", NULL, "%", get_utilization_gpu},
    {"utilization.memory", NULL, "%", get_utilization_memory},
    {"ecc.mode.current", NULL, NULL, get_ecc},
    {"ecc.mode.pending", NULL, NULL, get_ecc_pending},
    {"ecc.errors.uncorrected.volatile.total", NULL, NULL, get_ecc_errors},
    {"mig.mode.current", NULL, NULL, get_mig},
    {"mig.mode.pending", NULL, NULL, get_mig_pending},
};

#define KNOWN_FIELDS (sizeof known_fields / sizeof *known_fields)

bool smi_same(const char *name, const char *word, size_t length)
{
	return name != NULL && strlen(name) == length && strncmp(name, word, length) == 0;
}

const struct smi_field *smi_find_field(const char *word, size_t length)
{
	for (size_t i = 0; i < KNOWN_FIELDS; i++) {
		if (smi_same(known_fields[i].name, word, length) ||
		    smi_same(known_fields[i].alias, word, length))
			return &known_fields[i];
	}
	return NULL;
}

void smi_value(const struct smi *smi, nvmlDevice_t gpu, const char *field, char *text, size_t size)
{
	const struct smi_field *found = smi_find_field(field, strlen(field));
	nvmlReturn_t result = NVML_ERROR_FUNCTION_NOT_FOUND;

	if (found != NULL)
		result = found->get(smi, gpu, text, size);
	if (result != NVML_SUCCESS)
		(void)snprintf(text, size, result == NVML_ERROR_NOT_SUPPORTED ? "N/A" : "ERR!");
}
