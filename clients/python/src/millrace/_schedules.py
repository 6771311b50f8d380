# SPDX-License-Identifier: Apache-2.0
"""Schedules: jobs made again and again."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Iterable
from datetime import datetime

from millrace._call import Connection
from millrace._convert import new_id, schedule_from_pb, schedule_to_pb, timing_to_pb
from millrace._times import Duration, time_from_pb, time_to_pb
from millrace.errors import AlreadyExists
from millrace.proto.v1 import schedule_service_pb2 as messages
from millrace.proto.v1.schedule_service_pb2_grpc import ScheduleServiceStub
from millrace.types import Declared, Schedule, ScheduleSpec

__all__ = ["Schedules"]


class Schedules:
    """Recurring jobs. A schedule's name is its key."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _stub(self) -> ScheduleServiceStub:
        return self._connection.stub(ScheduleServiceStub)

    def _spec(self, spec: ScheduleSpec) -> messages.ScheduleSpec:
        return schedule_to_pb(spec, self._connection.routes, self._connection.codec)

    async def declare(self, owner: str, schedules: Iterable[ScheduleSpec], *, prune: bool = False) -> Declared:
        """Makes an owner's schedules be these, at an application's start: creates and updates, and with `prune` deletes its others."""
        request = messages.DeclareSchedulesRequest(owner=owner, schedules=[self._spec(spec) for spec in schedules], prune=prune)
        response = await self._connection.call(self._stub.DeclareSchedules, request)
        return Declared(response.created, response.updated, response.unchanged, response.deleted)

    async def create(self, spec: ScheduleSpec) -> Schedule:
        """Creates a schedule. The same name and content changes nothing; other content is AlreadyExists."""
        response = await self._connection.call(self._stub.CreateSchedule, messages.CreateScheduleRequest(schedule=self._spec(spec)))
        return schedule_from_pb(response.schedule, existing=response.existing)

    async def put(self, spec: ScheduleSpec) -> Schedule:
        """Creates a schedule, or replaces the content of the one that has its name."""
        try:
            return await self.create(spec)
        except AlreadyExists:
            return await self.update(spec)

    async def update(self, spec: ScheduleSpec) -> Schedule:
        """Replaces the content of a schedule; its past stays. Raises NotFound."""
        response = await self._connection.call(self._stub.UpdateSchedule, messages.UpdateScheduleRequest(schedule=self._spec(spec)))
        return schedule_from_pb(response.schedule)

    async def get(self, name: str) -> Schedule:
        """The schedule. Raises NotFound."""
        response = await self._connection.call(self._stub.GetSchedule, messages.GetScheduleRequest(name=name))
        return schedule_from_pb(response.schedule)

    async def list(self, *, owner: str = "", page_size: int = 0) -> AsyncIterator[Schedule]:
        """All schedules (of an owner), page by page."""
        request = messages.ListSchedulesRequest(owner=owner, page_size=page_size)
        async for response in self._connection.pages(lambda: self._stub.ListSchedules, request):
            for schedule in response.schedules:
                yield schedule_from_pb(schedule)

    async def delete(self, name: str) -> None:
        """Removes a schedule; the jobs that it made stay. Raises NotFound."""
        await self._connection.call(self._stub.DeleteSchedule, messages.DeleteScheduleRequest(name=name))

    async def pause(self, name: str) -> Schedule:
        """Makes no jobs until resumed."""
        response = await self._connection.call(self._stub.PauseSchedule, messages.PauseScheduleRequest(name=name))
        return schedule_from_pb(response.schedule)

    async def resume(self, name: str) -> Schedule:
        """Goes on after a pause."""
        response = await self._connection.call(self._stub.ResumeSchedule, messages.ResumeScheduleRequest(name=name))
        return schedule_from_pb(response.schedule)

    async def run(self, name: str) -> str:
        """Makes a job now and returns its id; the times to come stay."""
        request = messages.RunScheduleRequest(name=name, job_id=new_id())
        return str((await self._connection.call(self._stub.RunSchedule, request)).job_id)

    async def preview(
        self,
        *,
        cron: str | None = None,
        interval: Duration | None = None,
        time_zone: str = "",
        after: datetime | None = None,
        count: int = 10,
    ) -> builtins.list[datetime]:
        """The next times of an expression or interval; creates nothing."""
        request = messages.PreviewScheduleRequest(timing=timing_to_pb(cron, interval, time_zone), count=count)
        if after is not None:
            request.after.CopyFrom(time_to_pb(after, "after"))
        response = await self._connection.call(self._stub.PreviewSchedule, request)
        return [time_from_pb(time) for time in response.times]
