"""What a chat costs at the least: Flask, the `openai` package and a stream, nothing kept. The ruler for the throughput."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import openai
from flask import Flask, Response, request

app = Flask(__name__)
client = openai.OpenAI(base_url=os.environ["MODEL_URL"], api_key=os.environ["MODEL_KEY"], max_retries=0)


@app.post("/chat")
def chat() -> Response:
    text = request.get_json()["text"]

    def events() -> Iterator[str]:
        messages = [{"role": "user", "content": text}]
        with client.chat.completions.create(model=os.environ["MODEL"], messages=messages, stream=True) as stream:  # type: ignore
            for number, chunk in enumerate(stream, 1):
                if chunk.choices and chunk.choices[0].delta.content:
                    data = json.dumps({"text": chunk.choices[0].delta.content}, ensure_ascii=False)
                    yield f"id: {number}\nevent: delta\ndata: {data}\n\n"
        yield "id: 0\nevent: end\ndata: {}\n\n"

    return Response(events(), mimetype="text/event-stream")
