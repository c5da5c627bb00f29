/* SPDX-License-Identifier: Apache-2.0 */
/* Stands for the programs of a driver that have nothing to do in a simulated one. */
#include <stdio.h>

int main(int argc, char **argv);

int main(int argc, char **argv)
{
	(void)printf("%s: part of a simulated driver; does nothing\n",
	             argc > 0 ? argv[0] : "program");
	return 0;
}
