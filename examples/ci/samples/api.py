"""Answers on loopback as the APIs of GitHub and GitLab do, from the samples beside it. Prints its port."""

import http.server
import json
import pathlib
import urllib.parse

HERE = pathlib.Path(__file__).parent
TOKEN = "token-of-the-samples"
PROJECT = "/projects/7/"


def sample(name):
    return json.loads((HERE / name).read_text())


# A full page of what teaches nothing comes first, so that the next one has to be asked for.
PROGRAM = sample("github_comments.json")[2]
assert PROGRAM["user"]["type"] == "Bot"
PAGE = [PROGRAM | {"id": number} for number in range(100)]

ANSWERS = {
    "/repos/shop/billing/pulls/412/comments": PAGE + sample("github_comments.json"),
    "/repos/shop/billing/pulls/413": (HERE / "next.diff").read_bytes(),
    PROJECT + "repository/commits/c0ffee/merge_requests": [{"iid": 9, "state": "merged"}, {"iid": 8, "state": "closed"}],
    PROJECT + "repository/commits/c0ffef/merge_requests": [],
    PROJECT + "merge_requests/9/discussions": sample("gitlab_discussions.json"),
}


class Api(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        address = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(address.query)
        shown = (self.headers.get("Authorization"), self.headers.get("PRIVATE-TOKEN"))
        answer = ANSWERS.get(address.path)
        if shown not in [(f"Bearer {TOKEN}", None), (None, TOKEN)]:
            status, answer = 401, {"message": "401 Unauthorized"}
        elif answer is None:
            status, answer = 404, {"message": "404 Not Found"}
        elif isinstance(answer, bytes):
            wanted = self.headers.get("Accept") == "application/vnd.github.diff"
            status, answer = (200, answer) if wanted else (406, {"message": "expected a diff to be asked for"})
        else:
            status = 200
            page = int(query.get("page", ["1"])[0])
            size = int(query.get("per_page", ["20"])[0])
            answer = answer[(page - 1) * size : page * size]
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
print(server.server_port, flush=True)
server.serve_forever()
