# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One leader at a time (private: may change without notice)."""

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError
from ansible_collections.progressive.platform.plugins.module_utils._kube.lease import Lease

RENEW = 3.0  # seconds between two renewals, and between two looks of who waits
GIVE_UP = 10.0  # seconds without a successful renewal after which the leader stops: well before another may begin


class Leadership(Lease):
    """An operator may lead again without a word, for it starts from what is there; so it renews by taking, and an answer that was lost does no harm."""

    def try_to_lead(self) -> bool:
        """Takes or renews the Lease; False while another holds it, or the server cannot be asked."""
        try:
            return self.take()
        except ApiError:
            return False

    def lost(self) -> bool:
        """Whether we have not renewed for so long that another may lead soon."""
        return self.clock.now() - self.renewed >= GIVE_UP
