"""Calls a method of Kubernetes' container runtime interface: cri.py SOCKET METHOD REQUEST, in JSON both ways.

The messages are those of runtime/v1/api.proto, as far as the tests need them."""
import json
import sys

import grpc

NUMBER, FLAG, TEXT = "number", "flag", "text"

# Of each message its fields: their numbers, and what they are.
POD = {"pod_sandbox_id": (1, TEXT)}
CONTAINER = {"container_id": (1, TEXT)}
VALUE = {"value": (1, NUMBER)}
NAMESPACES = {"network": (1, NUMBER), "pid": (2, NUMBER), "ipc": (3, NUMBER)}
RESOURCES = {
    "cpu_period": (1, NUMBER),
    "cpu_quota": (2, NUMBER),
    "cpu_shares": (3, NUMBER),
    "memory_limit_in_bytes": (4, NUMBER),
}
PROFILE = {"profile_type": (1, NUMBER)}
POD_CONFIG = {
    "metadata": (1, {"name": (1, TEXT), "uid": (2, TEXT), "namespace": (3, TEXT)}),
    "hostname": (2, TEXT),
    "log_directory": (3, TEXT),
    "linux": (8, {"cgroup_parent": (1, TEXT), "security_context": (2, {"namespace_options": (1, NAMESPACES)})}),
}
CONTAINER_CONFIG = {
    "metadata": (1, {"name": (1, TEXT)}),
    "image": (2, {"image": (1, TEXT)}),
    "command": (3, TEXT),
    "working_dir": (5, TEXT),
    "envs": (6, {"key": (1, TEXT), "value": (2, TEXT)}),
    "mounts": (7, {"container_path": (1, TEXT), "host_path": (2, TEXT), "readonly": (3, FLAG)}),
    "log_path": (11, TEXT),
    "linux": (15, {
        "resources": (1, RESOURCES),
        "security_context": (2, {
            "capabilities": (1, {"drop_capabilities": (2, TEXT)}),
            "namespace_options": (3, NAMESPACES),
            "run_as_user": (5, VALUE),
            "readonly_rootfs": (7, FLAG),
            "no_new_privs": (11, FLAG),
            "seccomp": (15, PROFILE),
        }),
    }),
}
STATUS = {"state": (3, NUMBER), "exit_code": (7, NUMBER)}
METHODS = {
    "Version": ({}, {}),
    "RunPodSandbox": ({"config": (1, POD_CONFIG)}, POD),
    "PodSandboxStatus": (POD, {"status": (1, {"state": (3, NUMBER)})}),
    "StopPodSandbox": (POD, {}),
    "RemovePodSandbox": (POD, {}),
    "CreateContainer": ({**POD, "config": (2, CONTAINER_CONFIG), "sandbox_config": (3, POD_CONFIG)}, CONTAINER),
    "StartContainer": (CONTAINER, {}),
    "StopContainer": ({**CONTAINER, "timeout": (2, NUMBER)}, {}),
    "RemoveContainer": (CONTAINER, {}),
    "ContainerStatus": (CONTAINER, {"status": (1, STATUS)}),
    "UpdateContainerResources": ({**CONTAINER, "linux": (2, RESOURCES)}, {}),
    "ExecSync": (
        {**CONTAINER, "cmd": (2, TEXT), "timeout": (3, NUMBER)},
        {"stdout": (1, TEXT), "stderr": (2, TEXT), "exit_code": (3, NUMBER)},
    ),
    "ContainerStats": (
        CONTAINER,
        {"stats": (1, {"memory": (3, {"working_set_bytes": (2, VALUE)})})},
    ),
}


def varint(number):
    number &= 2**64 - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode(message, fields):
    out = b""
    for name, value in message.items():
        number, kind = fields[name]
        for one in value if isinstance(value, list) else [value]:
            if kind in (NUMBER, FLAG):
                out += varint(number << 3) + varint(int(one))
            else:
                data = one.encode() if kind == TEXT else encode(one, kind)
                out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def decode(data, fields):
    """Fields that are not known are left out, those that are not there have their zero; none is expected twice."""
    known = {number: (name, kind) for name, (number, kind) in fields.items()}
    zeros = {NUMBER: 0, FLAG: 0, TEXT: ""}
    message = {name: decode(b"", kind) if isinstance(kind, dict) else zeros[kind] for name, (_, kind) in fields.items()}
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    while at < len(data):
        tag = number()
        wire = tag & 7
        if wire == 0:
            value = number()
        else:
            length = {1: 8, 5: 4}.get(wire) or number()
            value = data[at : at + length]
            at += length
        name, kind = known.get(tag >> 3, (None, None))
        if isinstance(kind, dict):
            value = decode(value, kind)
        elif kind == TEXT:
            value = value.decode()
        if name:
            message[name] = value
    return message


def main():
    socket, method, request = sys.argv[1:]
    asked, answered = METHODS[method]
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        call = channel.unary_unary(f"/runtime.v1.RuntimeService/{method}")
        try:
            answer = call(encode(json.loads(request), asked), timeout=60)
        except grpc.RpcError as error:
            sys.exit(f"{method}: {error.code().name}: {error.details()}")
    print(json.dumps(decode(answer, answered)))


main()
