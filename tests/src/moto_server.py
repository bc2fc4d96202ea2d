"""moto's S3 server with its conditional writes one at a time.

moto looks whether the object exists and then writes it, without a lock: under load two who create one object at the same
time are both told that they had. S3 never does that, and Strongroom's probe rightly refuses a service that does.
"""

import io
import threading

from moto import server

one_at_a_time = threading.Lock()
dispatch = server.DomainDispatcherApplication.__call__


def call(self, environ, start_response):
    if "HTTP_IF_NONE_MATCH" not in environ and "HTTP_IF_MATCH" not in environ:
        return dispatch(self, environ, start_response)
    # Read before the lock is held, so that a slow sender keeps nobody waiting.
    environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
    with one_at_a_time:
        return dispatch(self, environ, start_response)


server.DomainDispatcherApplication.__call__ = call
server.main()
