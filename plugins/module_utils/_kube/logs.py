# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a container that crashed wrote last (private: may change without notice)."""

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client

GONE = "unable to retrieve container logs"  # the kubelet's answer, with status 200, when the container was removed meanwhile


def last_log(client: Client, path: str, container: str, lines: int, timeout: float) -> str:
    """The last lines of the crashed container, or of the one after it when there are none; "" when neither can be had.

    ``path`` is that of the pod's log; ``timeout`` in seconds bounds each of the two requests.
    """
    for previous in (True, False):
        try:
            text = client.text(path, timeout=timeout, container=container, previous=previous, tailLines=lines)
        except ApiError:
            continue
        if text.strip() and not text.startswith(GONE):
            return text.strip()
    return ""
