/* SPDX-License-Identifier: Apache-2.0 */
/* nvidia-smi --query-gpu: values by name, as CSV. */
#include <stdio.h>
#include <string.h>

#include "smi.h"

#define MAX_FIELDS 64

static size_t word_length(const char *list)
{
	const char *comma = strchr(list, ',');

	return comma == NULL ? strlen(list) : (size_t)(comma - list);
}

/* The word after the one of this length, NULL if that was the last. */
static const char *next_word(const char *list, size_t length)
{
	return list[length] == ',' ? list + length + 1 : NULL;
}

static int parse_fields(const char *list, const struct smi_field *fields[MAX_FIELDS], size_t *count)
{
	*count = 0;
	for (const char *word = list; word != NULL;) {
		size_t length = word_length(word);
		const struct smi_field *field = smi_find_field(word, length);

		if (field == NULL || *count == MAX_FIELDS) {
			(void)printf("Field \"%.*s\" is not a valid field to query.\n\n",
			             (int)length, word);
			return SMI_INVALID_FIELD;
		}
		fields[(*count)++] = field;
		word = next_word(word, length);
	}
	return SMI_DONE;
}

static int parse_format(const char *list, bool *header, bool *units)
{
	bool csv = false;

	*header = true;
	*units = true;
	for (const char *word = list; word != NULL;) {
		size_t length = word_length(word);

		if (smi_same("csv", word, length))
			csv = true;
		else if (smi_same("noheader", word, length))
			*header = false;
		else if (smi_same("nounits", word, length))
			*units = false;
		else
			csv = false;
		word = next_word(word, length);
	}
	if (csv)
		return SMI_DONE;
	(void)puts("Invalid combination of input arguments. "
	           "Please run 'nvidia-smi -h' for help.\n");
	return SMI_USAGE;
}

int smi_check_query(const char *fields, const char *format)
{
	const struct smi_field *found[MAX_FIELDS];
	size_t count;
	bool header, units;
	int status = parse_format(format, &header, &units);

	return status == SMI_DONE ? parse_fields(fields, found, &count) : status;
}

static void print_header(const struct smi_field *const fields[], size_t count)
{
	for (size_t i = 0; i < count; i++) {
		(void)printf("%s%s", i > 0 ? ", " : "", fields[i]->name);
		if (fields[i]->unit != NULL)
			(void)printf(" [%s]", fields[i]->unit);
	}
	(void)printf("\n");
}

static void print_row(const struct smi *smi, nvmlDevice_t gpu,
                      const struct smi_field *const fields[], size_t count, bool units)
{
	for (size_t i = 0; i < count; i++) {
		char text[128];
		nvmlReturn_t result = fields[i]->get(smi, gpu, text, sizeof text);

		(void)printf("%s", i > 0 ? ", " : "");
		if (result == NVML_ERROR_NOT_SUPPORTED)
			(void)printf("[N/A]");
		else if (result != NVML_SUCCESS)
			(void)printf("[%s]", smi->nvmlErrorString(result));
		else if (fields[i]->unit != NULL && units)
			(void)printf("%s %s", text, fields[i]->unit);
		else
			(void)printf("%s", text);
	}
	(void)printf("\n");
}

int smi_print_query(const struct smi *smi, const char *fields, const char *format)
{
	const struct smi_field *found[MAX_FIELDS];
	size_t count;
	bool header, units;
	int status = SMI_DONE;

	if (parse_format(format, &header, &units) != SMI_DONE)
		return SMI_USAGE;
	if (parse_fields(fields, found, &count) != SMI_DONE)
		return SMI_INVALID_FIELD;
	if (header)
		print_header(found, count);
	for (unsigned int i = 0; i < smi->count; i++) {
		nvmlDevice_t gpu;
		int result = smi_find_gpu(smi, i, smi_gpu_word(smi), &gpu);

		if (result == SMI_DONE)
			print_row(smi, gpu, found, count, units);
		else
			status = result;
	}
	return status;
}
