"""The control plane's HTTP on a Unix socket: change the mesh, ask about it.

Answers are JSON (`/objects`: YAML); an error is `{"error": "..."}` in one clear sentence. Decides
nothing: it asks admission, pipeline and status.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal, cast, get_args

from aiohttp import web

from mesh.answers.asked_request import asked_request, claim, pair
from mesh.answers.called import UnknownName
from mesh.answers.difference import Sample
from mesh.answers.explain import explain
from mesh.answers.flow import Flow
from mesh.model import ObjectRef, Problem, Protocol
from mesh.node import readable as tables
from xds.documents import ApiObject, Documents, parse
from xds.pipeline import Pipeline, StoreFailed
from xds.questions import Questions
from xds.source import Edit
from xds.status import Status, plain
from xds.store import Store

_LOG = logging.getLogger(__name__)

#: Bytes of a request body.
_LARGEST = 64 << 20


class Admin:
    """Serves until `stop`."""

    def __init__(self, pipeline: Pipeline, status: Status) -> None:
        self._pipeline = pipeline
        self._status = status
        self._questions = Questions(pipeline, status)
        self._runner: web.AppRunner | None = None

    async def start(self, socket: Path) -> None:
        """Listen on `socket`, mode 0600. Raises OSError."""
        application = web.Application(client_max_size=_LARGEST, middlewares=[_errors])
        application.add_routes(
            [
                web.post("/apply", self._apply),
                web.post("/delete", self._delete),
                web.get("/status", self._get_status),
                web.get("/wait", self._wait),
                web.get("/objects", self._objects),
                web.get("/get", self._get),
                web.get("/explain", self._explain),
                web.get("/who-can-reach", self._who_can_reach),
                web.get("/matrix", self._matrix),
                web.get("/analyze", self._analyze),
                web.post("/diff", self._diff),
                web.get("/render", self._render),
                web.get("/proxies", self._proxies),
                web.get("/describe", self._describe),
                web.get("/names", self._names),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1)
        await self._runner.setup()
        mask = os.umask(0o177)
        try:
            await web.UnixSite(self._runner, str(socket)).start()
        finally:
            os.umask(mask)

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    # --- changing ----------------------------------------------------------------------------

    async def _apply(self, request: web.Request) -> web.Response:
        """Objects that cannot be read are refused and not stored (rule 18), the rest is applied."""
        documents = await _documents(request)
        items = {item.ref: item for item in documents.objects}
        problems: list[Problem] = list(documents.problems)
        accepted: list[ApiObject] = []
        for item in items.values():
            fragment = self._pipeline.admission.read(item)
            problems += fragment.problems
            if fragment.valid:
                accepted.append(item)
        if _is_set(request, "dry_run"):
            store = self._pipeline.store
            actions = {item.ref: _foreseen(item, store) for item in accepted}
            generation = self._pipeline.generations.number
        else:
            outcome = await self._pipeline.submit(Edit(set=tuple(accepted)))
            actions, generation = dict(outcome.actions), outcome.generation
            problems += [p for p in self._status.problems if p.object in actions and p not in problems]
        return _answer(
            {
                "generation": generation,
                "objects": [{"object": str(ref), "action": actions.get(ref, "refused")} for ref in items],
                "problems": [plain(problem) for problem in problems],
            }
        )

    async def _delete(self, request: web.Request) -> web.Response:
        documents = await _documents(request)
        refs = tuple(dict.fromkeys(item.ref for item in documents.objects))
        if _is_set(request, "dry_run"):
            known = self._pipeline.store.refs()
            actions: dict[ObjectRef, str] = {ref: "deleted" if ref in known else "not found" for ref in refs}
            generation = self._pipeline.generations.number
        else:
            outcome = await self._pipeline.submit(Edit(delete=refs))
            actions, generation = dict(outcome.actions), outcome.generation
        return _answer(
            {
                "generation": generation,
                "objects": [{"object": str(ref), "action": actions[ref]} for ref in refs],
                "problems": [plain(problem) for problem in documents.problems],
            }
        )

    # --- asking ------------------------------------------------------------------------------

    async def _get_status(self, request: web.Request) -> web.Response:
        return _answer(self._status.report())

    async def _wait(self, request: web.Request) -> web.Response:
        generation = int(_number(request, "generation", self._pipeline.generations.number))
        timeout = _number(request, "timeout", 30.0)
        done = await self._status.wait(generation, timeout)
        applied = self._status.applied()
        answer = {"generation": generation, "applied": applied}
        if done:
            return _answer(answer)
        late = [f"{node} is at {number}" for node, number in applied.items() if number < generation]
        error = f"generation {generation} is not applied after {timeout:g} s: node {', node '.join(late)}"
        return _answer(answer | {"error": error}, status=504)

    async def _objects(self, request: web.Request) -> web.StreamResponse:
        """All objects as stored; `kind`, `namespace` and `name` narrow them."""
        import yaml

        wanted = {key: request.query[key] for key in ObjectRef._fields if key in request.query}
        response = web.StreamResponse(headers={"Content-Type": "application/yaml; charset=utf-8"})
        await response.prepare(request)
        for ref in sorted(self._pipeline.store.refs()):
            if all(getattr(ref, key) == value for key, value in wanted.items()):
                item = self._pipeline.store.get(ref)
                if item is not None:
                    text: str = yaml.dump(
                        item.content, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True
                    )
                    await response.write(b"---\n" + text.encode())
        await response.write_eof()
        return response

    async def _get(self, request: web.Request) -> web.Response:
        """Objects with their status; `kind`, `namespace` and `name` narrow them."""
        wanted = {key: request.query[key] for key in ObjectRef._fields if key in request.query}
        return _answer({"items": await self._questions.get(wanted)})

    async def _explain(self, request: web.Request) -> web.Response:
        query = request.query
        protocol = _protocol(request)
        try:
            head = asked_request(
                query.get("method", ""),
                query.get("path", ""),
                query.get("host", ""),
                map(pair, query.getall("header", [])),
                map(claim, query.getall("claim", [])),
            )
        except ValueError as error:
            raise _bad(str(error)) from None
        source, target = (_wanted(request, key) for key in ("from", "to"))
        try:
            return _answer(explain(self._pipeline.mesh, source, target, protocol, head))
        except UnknownName as error:
            raise _bad(str(error)) from None

    async def _who_can_reach(self, request: web.Request) -> web.Response:
        target, protocol = _wanted(request, "to"), _protocol(request)
        try:
            return _answer(await self._questions.who_can_reach(target, protocol))
        except UnknownName as error:
            raise _bad(str(error)) from None

    async def _matrix(self, request: web.Request) -> web.Response:
        """`namespace`, which may be repeated, narrows the callees."""
        return _answer(await self._questions.matrix(request.query.getall("namespace", [])))

    async def _analyze(self, request: web.Request) -> web.Response:
        return _answer(await self._questions.analyze())

    async def _diff(self, request: web.Request) -> web.Response:
        """The body is JSON: `manifests` are pairs of origin and text, `samples` pairs of a flow and how
        often it was seen."""
        try:
            body = json.loads(await request.read())
            parsed = [parse(str(text), str(origin)) for origin, text in body["manifests"]]
            samples = [Sample(Flow.from_json(flow), int(count)) for flow, count in body["samples"]]
        except (ValueError, KeyError, TypeError) as error:
            raise _bad(f"the body is no question about a difference: {error!r}") from None
        dated = self._pipeline.store.dated
        objects = [dated(item) for documents in parsed for item in documents.objects]
        answer = await self._questions.difference(objects, samples)
        unreadable = [problem for documents in parsed for problem in documents.problems]
        answer["problems"] += map(plain, unreadable)
        answer["refused"] += dict.fromkeys(str(problem.object) for problem in unreadable)
        return _answer(answer)

    async def _render(self, request: web.Request) -> web.Response:
        """`pod=namespace/name`: what its Envoy is served; else the tables of this node."""
        snapshot = self._pipeline.nodes[self._pipeline.node]
        pod = request.query.get("pod")
        if pod is None:
            return _answer(tables(snapshot.state))
        if all(str(name) != pod for name in self._pipeline.mesh.workloads):
            raise _bad(f"there is no Pod {pod}", web.HTTPNotFound)
        from xds.render import readable

        return _answer(readable(snapshot.rendered.get(pod, ())))

    async def _proxies(self, request: web.Request) -> web.Response:
        """What each proxy of this node is to be served."""
        return _answer(self._pipeline.nodes[self._pipeline.node].proxies())

    async def _names(self, request: web.Request) -> web.Response:
        return _answer(self._status.names())

    async def _describe(self, request: web.Request) -> web.Response:
        """`pod=namespace/name` or `service=namespace/name`."""
        kind: Literal["pod", "service"] = "service" if "service" in request.query else "pod"
        try:
            return _answer(await self._questions.describe(kind, _wanted(request, kind)))
        except UnknownName as error:
            raise _bad(str(error), web.HTTPNotFound) from None


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Every error as JSON."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _answer({"error": error.text or error.reason}, status=error.status)
    except StoreFailed as error:
        return _answer({"error": str(error)}, status=507)
    except Exception as error:
        _LOG.exception("%s %s failed", request.method, request.path)
        return _answer({"error": f"a fault of ours: {type(error).__name__}: {error}"}, status=500)


async def _documents(request: web.Request) -> Documents:
    try:
        text = (await request.read()).decode()
    except UnicodeDecodeError as error:
        raise _bad(f"the body is not UTF-8: {error}") from None
    documents = parse(text, "request")
    if not documents.objects:
        faults = [f"{problem.field}: {problem.message}" for problem in documents.problems]
        raise _bad("; ".join(faults) or "the body holds no object")
    return documents


def _foreseen(item: ApiObject, store: Store) -> Any:
    if item.ref not in store.refs():
        return "created"
    return "unchanged" if store.holds(item) else "configured"


def _is_set(request: web.Request, key: str) -> bool:
    return request.query.get(key, "false").lower() not in ("false", "0", "no")


def _protocol(request: web.Request) -> Protocol:
    protocol = request.query.get("protocol", "TCP")
    if protocol not in get_args(Protocol):
        raise _bad(f"protocol {protocol!r} is none of {', '.join(get_args(Protocol))}")
    return cast(Protocol, protocol)


def _wanted(request: web.Request, key: str) -> str:
    value = request.query.get(key)
    if not value:
        raise _bad(f"{key} is missing")
    return value


def _number(request: web.Request, key: str, default: float) -> float:
    try:
        return float(request.query.get(key, default))
    except ValueError:
        raise _bad(f"{key}: {request.query[key]!r} is no number") from None


def _bad(message: str, kind: type[web.HTTPException] = web.HTTPBadRequest) -> web.HTTPException:
    return kind(text=message)


def _answer(content: Any, status: int = 200) -> web.Response:
    return web.json_response(content, status=status, dumps=_dumps)


def _dumps(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False)
