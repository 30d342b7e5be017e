"""The baseline of ``serve``: the same read as a service is usually written, by a router, a model and its encoder, over the same copy."""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from schemas.recommendation import Recommendations
from streams.runtime.store import Store, StoreOptions


def main() -> None:
    """Serve until stopped. Arguments: folder of the replica's store, port, MiB of its block cache."""
    store = Store.open_or_rebuild(Path(sys.argv[1]), StoreOptions(cache_mb=int(sys.argv[3])))

    async def recommendations(request: Request) -> Response:
        value = store.get(b"r" + request.path_params["id"].encode())
        if value is None:
            return JSONResponse({"code": "shopper_unknown"}, 404)
        return JSONResponse(Recommendations.model_validate_json(value).model_dump(mode="json", exclude_none=True))

    app = Starlette(routes=[Route("/v1/users/{id}/recommendations", recommendations)])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), loop="uvloop", http="httptools", access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
