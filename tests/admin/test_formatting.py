"""Times as the monitor's pages show them."""

from __future__ import annotations

import time

import pytest
from django.conf import settings
from django.test import override_settings
from django.utils import timezone

from django_agent_sse.runtime import formatting

AT = 1_767_265_200  # 11:00 UTC on 1 January 2026


@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize(("zone", "hour"), [("Europe/Berlin", "12:00"), ("Asia/Tokyo", "20:00"), (None, None)])
def test_a_time_is_one_of_the_servers_zone_with_and_without_zones(use_tz: bool, zone: str | None, hour: str | None) -> None:
    with override_settings(USE_TZ=use_tz):
        timezone.get_default_timezone.cache_clear()
        settings.TIME_ZONE = zone  # plainly: override_settings() would change the zone of this process
        try:
            told, now = formatting.clock(AT), formatting.clock(time.time())
        finally:
            timezone.get_default_timezone.cache_clear()
    assert told == f"Jan. 1, 2026 {hour or time.strftime('%H:%M', time.localtime(AT))}"
    assert len(now) == len("12:00:00")
