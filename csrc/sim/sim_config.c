/* SPDX-License-Identifier: Apache-2.0 */
#include "sim_config.h"

/* In a section of its own, so that it can be found with readelf too. */
static const struct sim_config record __attribute__((section(".nvcsim"), used)) = {
    .magic = SIM_MAGIC,
    .version = SIM_VERSION,
    .size = sizeof record,
};

const struct sim_config *sim_config(void)
{
	const struct sim_config *config = &record;

	/* The bytes change after compilation: the compiler must not look through the pointer. */
	__asm__("" : "+r"(config));
	return config;
}
