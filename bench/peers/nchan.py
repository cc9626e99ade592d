"""nginx with nchan, where it is installed: `python -m bench.peers.nchan PORT SOURCE_PORT`.

nchan takes its messages by HTTP, so a child of this process posts the publisher's lines to it, one at a time on a kept
connection; the process itself becomes nginx, so that only nginx is measured. Not tuned beyond what its manual offers.
Invariant: one line is one post is one message, in order.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

MODULES = (Path("/usr/lib/nginx/modules"), Path("/usr/share/nginx/modules"), Path("/usr/lib64/nginx/modules"))
MODULE = "ngx_nchan_module.so"

SETTINGS = """
load_module {module};
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log crit;
worker_rlimit_nofile 20000;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 100000000;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /ws {{ nchan_subscriber websocket; nchan_channel_id bench; nchan_subscriber_first_message newest; }}
        location = /pub {{ nchan_publisher http; nchan_channel_id bench; nchan_message_timeout 10s; }}
    }}
}}
"""


def module() -> Path | None:
    """Where nginx keeps nchan; None when it is not installed."""
    return next((folder / MODULE for folder in MODULES if (folder / MODULE).exists()), None)


async def carry(port: int, source_port: int) -> None:
    """Post the publisher's lines until nginx is gone."""
    over = asyncio.Event()

    async def on_publisher(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, to_nginx = await asyncio.open_connection("127.0.0.1", port)
        try:
            async for line in reader:
                body = line[:-1]
                to_nginx.write(b"POST /pub HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                head = (await answers.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
                await answers.readexactly(length)
        except (ConnectionError, asyncio.IncompleteReadError):
            over.set()
        finally:
            writer.close()
            to_nginx.close()

    def look(nginx: int) -> None:
        if os.getppid() == nginx:
            asyncio.get_running_loop().call_later(0.2, look, nginx)
        else:
            over.set()

    look(os.getppid())
    async with await asyncio.start_server(on_publisher, "127.0.0.1", source_port):
        await over.wait()


def main(port: int, source_port: int) -> None:
    found = module()
    if found is None:
        raise SystemExit(f"nchan is not installed: no {MODULE} in any of {', '.join(map(str, MODULES))}")
    folder = Path(tempfile.mkdtemp(prefix="nchan-"))
    settings = folder / "nginx.conf"
    settings.write_text(SETTINGS.format(module=found, folder=folder, port=port))
    if os.fork() == 0:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        asyncio.run(carry(port, source_port))
        shutil.rmtree(folder, ignore_errors=True)
        return
    os.execvp("nginx", ["nginx", "-c", str(settings), "-p", str(folder), "-e", str(folder / "error.log")])


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
