/* SPDX-License-Identifier: Apache-2.0 */
/* Prints how it was started: the number of its arguments, they, its environment; each ended by NUL.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void print(char **strings)
{
	for (; *strings != NULL; strings++)
		(void)fwrite(*strings, 1, strlen(*strings) + 1, stdout);
}

int main(int argc, char **argv)
{
	(void)printf("%d%c", argc, '\0');
	print(argv);
	print(environ);
	return 0;
}
