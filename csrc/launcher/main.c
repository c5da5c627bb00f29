/* SPDX-License-Identifier: Apache-2.0 */
/* nvidia-container-cli, nvidia-container-runtime, nvidia-container-runtime-hook and
 * nvidia-cdi-hook: what needs no decision is done here, whatever else Python does. Linked
 * statically: nothing in the environment changes which code runs, and it starts in a fraction of a
 * millisecond. */
#include <stdio.h>

#include "cli.h"
#include "hook.h"
#include "runtime.h"
#include "say.h"

int main(int argc, char **argv)
{
	static char *none[] = {NULL};
	char **arguments = argc > 0 ? argv + 1 : none;
	struct self self;

	switch (self_open(argc > 0 ? argv[0] : NULL, &self)) {
	case ROLE_RUNTIME:
		return runtime_run(&self, arguments);
	case ROLE_HOOK:
		return hook_run(&self, arguments);
	case ROLE_CDI_HOOK:
		return hook_run_cdi(&self, arguments);
	case ROLE_CLI:
		return cli_run(&self, arguments);
	case ROLE_NONE:
	default:
		break;
	}
	say(argc > 0 ? self_base(argv[0]) : "nvidia-container-runtime",
	    "not a name that this program knows: call it nvidia-container-cli, "
	    "nvidia-container-runtime, nvidia-container-runtime-hook or nvidia-cdi-hook");
	return 1;
}
