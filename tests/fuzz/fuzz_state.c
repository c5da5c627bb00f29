/* SPDX-License-Identifier: Apache-2.0 */
/* needs: json launcher/file launcher/front launcher/state */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "launcher/front.h"
#include "launcher/state.h"

static void read_state(const uint8_t *data, size_t size)
{
	struct state state;

	/* Promised: a process, or a reason; a root with at least one character, or none. */
	if (!state_read((const char *)data, size, &state))
		return;
	if (state.pid > 0 ? state.no_pid != NULL : state.no_pid == NULL)
		abort();
	if (!state.is_odd && state.root.at != NULL && state.root.at >= state.root.end)
		abort();
}

/* What comes first is a front file, behind it a document. */
static void read_front(const uint8_t *data, size_t size)
{
	static const char end[] = "\nend\n";
	const uint8_t *found = memmem(data, size, end, sizeof end - 1);
	size_t len = found == NULL ? size : (size_t)(found - data) + sizeof end - 1;
	char *text = malloc(len + 1);
	struct front front;

	if (text == NULL)
		abort();
	memcpy(text, data, len);
	if (front_parse(text, len, "1", &front)) {
		const char *value = front.runtimes.first;

		/* Promised: values that are not empty, and end inside the file. */
		for (size_t i = 0; i < front.runtimes.count; i++) {
			if (value[0] == '\0' || value + strlen(value) >= text + len)
				abort();
			value = front_next(&front.runtimes, value);
		}
		(void)front_may_ask(&front, (const char *)data + len, size - len);
	}
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	read_state(data, size);
	read_front(data, size);
	return 0;
}
