/* SPDX-License-Identifier: Apache-2.0 */
/* Give a fuzz target each file named on the command line. Every input is copied to memory of
 * exactly its size, so that AddressSanitizer sees the first byte read beyond it. */
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"

static int replay(const char *path)
{
	FILE *file = fopen(path, "rbe");
	uint8_t *data = NULL;
	long size = -1;

	if (file == NULL)
		return -1;
	if (fseek(file, 0, SEEK_END) == 0)
		size = ftell(file);
	if (size >= 0)
		data = malloc(size > 0 ? (size_t)size : 1);
	if (data == NULL || fseek(file, 0, SEEK_SET) != 0 ||
	    fread(data, 1, (size_t)size, file) != (size_t)size) {
		free(data);
		(void)fclose(file);
		return -1;
	}
	(void)fclose(file);
	(void)LLVMFuzzerTestOneInput(data, (size_t)size);
	free(data);
	return 0;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (replay(argv[i]) < 0) {
			perror(argv[i]);
			return 2;
		}
	}
	printf("replayed %d\n", argc - 1);
	return 0;
}
