"""LeaveGroup by instance id: the one request that aiokafka lacks for static members."""

from __future__ import annotations

from typing import Final

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int16, Int32, Schema, String

_LEAVE_GROUP: Final = 13
_NAMED_MEMBERS: Final = Array(("member_id", String("utf-8")), ("group_instance_id", String("utf-8")))


class _LeaveResponse(Response):
    API_KEY = _LEAVE_GROUP
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("members", Array(("member_id", String("utf-8")), ("group_instance_id", String("utf-8")), ("error_code", Int16))),
    )


class _LeaveStruct(RequestStruct):
    API_KEY = _LEAVE_GROUP
    API_VERSION = 3
    RESPONSE_TYPE = _LeaveResponse
    SCHEMA = Schema(("group", String("utf-8")), ("members", _NAMED_MEMBERS))


class LeaveByInstance(Request[_LeaveStruct]):
    """LeaveGroup, version 3 (KIP-345, brokers from 2.4 on): a static member leaves by its name, whether it knows its member id or not."""

    API_KEY = _LEAVE_GROUP

    def __init__(self, group: str, instance: str) -> None:
        self._group, self._instance = group, instance

    def build(self, request_struct_class: type[_LeaveStruct]) -> _LeaveStruct:
        """See ``Request.build``."""
        return request_struct_class(self._group, [("", self._instance)])
