/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kept.h"
#include "nvc_cleanup.h"
#include "nvc_io.h"
#include "python.h"
#include "say.h"

/* What info and list print rests on their words; cli/container_kept.py writes the same. */
static bool put_key(const struct self *self, char *const *arguments, struct nvc_bytes *out)
{
	nvc_autofile FILE *stream = open_memstream(&out->data, &out->len);
	bool good = stream != NULL && kept_header(self, "", stream);

	for (; good && *arguments != NULL; arguments++)
		good = fputc('w', stream) >= 0 && fputs(*arguments, stream) >= 0 &&
		       fputc('\0', stream) >= 0;
	return good && fflush(stream) == 0;
}

/* Print the output that is kept. False if there is none. */
static bool print_kept(const struct self *self, char *const *arguments, int *status)
{
	__attribute__((cleanup(nvc_bytes_free))) struct nvc_bytes key = {.data = NULL};
	auto_file struct file file = {.data = NULL};
	struct nvc_json output;
	struct kept kept;

	if (geteuid() != 0 || !put_key(self, arguments, &key) ||
	    !kept_load(NVC_VERSION, &key, &file, &kept) || !kept_section(&kept.result, &output) ||
	    kept.result.at != kept.result.end)
		return false;
	*status = 0;
	if (nvc_write_all(STDOUT_FILENO, output.at, (size_t)(output.end - output.at)) < 0) {
		char why[128];
		nvc_copy(why, sizeof why, strerror(errno));
		why[0] = (char)tolower((unsigned char)why[0]);
		say("nvidia-container-cli", "output error: write failed: %s", why);
		*status = 1;
	}
	return true;
}

int cli_run(const struct self *self, char *const *arguments)
{
	int status;

	if (print_kept(self, arguments, &status))
		return status;
	/* The environment is the caller's; -I ignores what would change Python. */
	return python_exec(self, "from libnvc.cli.container_cli import run; run()", arguments,
	                   environ);
}
