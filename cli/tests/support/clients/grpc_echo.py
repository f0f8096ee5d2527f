"""A gRPC server and client without generated code: messages are plain bytes.

usage: grpc_echo.py serve ADDRESS [PORT]   prints its port, answers until it is killed
       grpc_echo.py call TARGET CA NAME    calls each kind of method through TLS, prints what came back as JSON
"""

import json
import sys
from concurrent import futures

import grpc

NAMES = ["Unary", "ServerStream", "ClientStream", "Both", "Fail"]


def serve(address, port=0):
    def fail(request, context):
        context.set_trailing_metadata((("x-detail", "trailer"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked")

    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(lambda request, context: b"echo " + request),
        "ServerStream": grpc.unary_stream_rpc_method_handler(
            lambda request, context: (b"%d " % i + request for i in range(3))
        ),
        "ClientStream": grpc.stream_unary_rpc_method_handler(lambda requests, context: b"+".join(requests)),
        "Both": grpc.stream_stream_rpc_method_handler(lambda requests, context: (b"echo " + r for r in requests)),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    port = server.add_insecure_port(f"{address}:{port}")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


def call(target, ca, name):
    with open(ca, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    options = [("grpc.ssl_target_name_override", name), ("grpc.default_authority", name)]
    channel = grpc.secure_channel(target, credentials, options)
    got = {"Unary": channel.unary_unary("/test.Echo/Unary")(b"hi", timeout=20).decode()}
    got["Big"] = len(channel.unary_unary("/test.Echo/Unary")(b"x" * 1_000_000, timeout=20))
    answers = channel.unary_stream("/test.Echo/ServerStream")(b"hi", timeout=20)
    got["ServerStream"] = [answer.decode() for answer in answers]
    got["ClientStream"] = channel.stream_unary("/test.Echo/ClientStream")(iter([b"a", b"b", b"c"]), timeout=20).decode()

    # Each message is sent when the answer to the one before has come: neither side may wait for the other's end.
    import queue

    messages = queue.Queue()
    messages.put(b"0")
    answers = channel.stream_stream("/test.Echo/Both")(iter(messages.get, None), timeout=20)
    got["Both"] = []
    for answer in answers:
        got["Both"].append(answer.decode())
        messages.put(b"%d" % len(got["Both"]) if len(got["Both"]) < 5 else None)
    try:
        channel.unary_unary("/test.Echo/Fail")(b"", timeout=20)
    except grpc.RpcError as error:
        trailers = {key: value for key, value in error.trailing_metadata()}
        got["Fail"] = [error.code().name, error.details(), trailers.get("x-detail")]
    print(json.dumps(got))


if sys.argv[1] == "serve":
    serve(*sys.argv[2:])
else:
    call(*sys.argv[2:])
