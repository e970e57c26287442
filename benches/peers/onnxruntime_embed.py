"""The same embeddings by onnxruntime, to be measured beside ours on the same texts and cores.

usage: onnxruntime_embed.py --model DIR [--threads N] [--batch N] [--rounds N] [--interactive]
  --model DIR    holds model.safetensors and tokenizer.json of all-MiniLM-L6-v2
  --threads N    threads of one inference (intra-op); default: one a core
  --batch N      texts of one inference (default 32)
  --rounds N     every figure is the best of so many rounds (default 5)
  --interactive  answer line by line instead (below)
needs (from PyPI): numpy, onnx, onnxruntime, tokenizers

The model is not exported but put together here from the safetensors file, with the operators that
onnxruntime's own transformer optimizer would fuse an export into (EmbedLayerNormalization,
Attention, SkipLayerNormalization, BiasGelu), so the peer runs at its best and torch is not needed.
onnxruntime packs the weights once when the session is opened. A batch is padded to its longest
text, and texts are sorted by length before they are batched, as sentence-transformers does.

Every time is from the text to the pooled vector of unit length, tokenising included.

By default the texts are read from stdin until its end, one JSON string a line, and one line is
printed:

  {"peer": "onnxruntime 1.x", "threads": 2, "texts": 100, "pieces": 2031, "single_texts_per_s": 1,
   "single_ms_p50": 1, "batch": 32, "batch_texts_per_s": 1}

With --interactive, each line of stdin is one JSON array of texts, embedded as one batch, and each
is answered by one line at once, so that a caller can take turns with it and noise hits both alike:

  {"texts": 32, "pieces": 2112, "ms": 123.4, "model_ms": 120.1}

onnxruntime's threads go on spinning for more than ten milliseconds after an inference, which would
take a core from whoever has the next turn; with --interactive they stop when the answer is ready
(during the inference they spin as they always do).

--vectors adds "vectors" to each such answer: the pooled vectors, to compare them.
Pieces include [CLS] and [SEP].
"""

import argparse
import json
import os
import struct
import sys
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

LAYERS = 6
HEADS = 12
HIDDEN = 384
EPSILON = 1e-12
POSITIONS_MAX = 512


def read_safetensors(path):
    raw = open(path, "rb").read()
    size = struct.unpack("<Q", raw[:8])[0]
    weights = {}
    for name, tensor in json.loads(raw[8 : 8 + size]).items():
        if name != "__metadata__" and tensor["dtype"] == "F32":
            start, end = (8 + size + at for at in tensor["data_offsets"])
            weights[name] = np.frombuffer(raw[start:end], np.float32).reshape(tensor["shape"])
    return weights


def build_graph(w):
    """The encoder as an ONNX model: input_ids, mask [batch, length] -> states [batch, length, 384]."""
    nodes, initializers = [], []

    def constant(name, value):
        initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def weight(name, transpose=False):
        return constant(name, w[name].T if transpose else w[name])

    def node(op, inputs, output, domain="com.microsoft", **attributes):
        nodes.append(helper.make_node(op, inputs, [output], domain=domain, **attributes))
        return output

    embeddings = "embeddings."
    # Every piece has token type 0, so its row is added to each position's row beforehand.
    positions = (
        w[embeddings + "position_embeddings.weight"]
        + w[embeddings + "token_type_embeddings.weight"][0]
    )
    nodes.append(
        helper.make_node(
            "EmbedLayerNormalization",
            [
                "input_ids",
                "",
                weight(embeddings + "word_embeddings.weight"),
                constant("positions", positions),
                "",
                weight(embeddings + "LayerNorm.weight"),
                weight(embeddings + "LayerNorm.bias"),
            ],
            ["embedded", "no_mask"],
            domain="com.microsoft",
            epsilon=EPSILON,
        )
    )
    x = "embedded"
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."
        qkv = [at + "attention.self." + name for name in ("query", "key", "value")]
        attended = node(
            "Attention",
            [
                x,
                constant(at + "qkv", np.concatenate([w[n + ".weight"].T for n in qkv], 1)),
                constant(at + "qkv_bias", np.concatenate([w[n + ".bias"] for n in qkv])),
                "mask",
            ],
            at + "attended",
            num_heads=HEADS,
        )
        projected = node(
            "MatMul",
            [attended, weight(at + "attention.output.dense.weight", transpose=True)],
            at + "projected",
            domain="",
        )
        x = node(
            "SkipLayerNormalization",
            [
                projected,
                x,
                weight(at + "attention.output.LayerNorm.weight"),
                weight(at + "attention.output.LayerNorm.bias"),
                weight(at + "attention.output.dense.bias"),
            ],
            at + "normed",
            epsilon=EPSILON,
        )
        widened = node(
            "MatMul",
            [x, weight(at + "intermediate.dense.weight", transpose=True)],
            at + "widened",
            domain="",
        )
        activated = node(
            "BiasGelu", [widened, weight(at + "intermediate.dense.bias")], at + "activated"
        )
        narrowed = node(
            "MatMul",
            [activated, weight(at + "output.dense.weight", transpose=True)],
            at + "narrowed",
            domain="",
        )
        x = node(
            "SkipLayerNormalization",
            [
                narrowed,
                x,
                weight(at + "output.LayerNorm.weight"),
                weight(at + "output.LayerNorm.bias"),
                weight(at + "output.dense.bias"),
            ],
            "states" if layer == LAYERS - 1 else at + "out",
            epsilon=EPSILON,
        )
    shape = ["batch", "length"]
    graph = helper.make_graph(
        nodes,
        "all-MiniLM-L6-v2",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT32, shape),
            helper.make_tensor_value_info("mask", TensorProto.INT32, shape),
        ],
        [helper.make_tensor_value_info("states", TensorProto.FLOAT, shape + [HIDDEN])],
        initializers,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    # The lowest format version that has these operator sets: the newest one is refused by an
    # onnxruntime that is a little older than the onnx package.
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


class Peer:
    def __init__(self, folder, threads, rest_between):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        if rest_between:
            options.add_session_config_entry("session.force_spinning_stop", "1")
        model = build_graph(read_safetensors(f"{folder}/model.safetensors"))
        self.session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
        self.tokenizer.no_padding()  # The file pads to 128 ...
        self.tokenizer.enable_truncation(POSITIONS_MAX)  # ... and truncates there.

    def embed(self, texts):
        """Vectors [texts, 384] of unit length, pieces read, seconds, seconds of the model alone."""
        start = time.perf_counter()
        rows = [e.ids for e in self.tokenizer.encode_batch(texts)]
        length = max(len(row) for row in rows)
        ids = np.zeros((len(rows), length), np.int32)
        mask = np.zeros((len(rows), length), np.int32)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = 1
        model_start = time.perf_counter()
        (states,) = self.session.run(None, {"input_ids": ids, "mask": mask})
        model_s = time.perf_counter() - model_start
        # The direction of the sum is that of the mean.
        dense = (mask[:, None, :].astype(np.float32) @ states)[:, 0]
        dense /= np.linalg.norm(dense, axis=1, keepdims=True)
        return dense, sum(map(len, rows)), time.perf_counter() - start, model_s


def measure(peer, texts, threads, batch, rounds):
    # Lengths in pieces, so that a batch holds texts of about one length.
    lengths = [len(e.ids) for e in peer.tokenizer.encode_batch(texts)]
    in_order = [texts[i] for i in sorted(range(len(texts)), key=lambda i: lengths[i])]
    batches = [in_order[at : at + batch] for at in range(0, len(in_order), batch)]
    peer.embed(batches[-1])  # The first run allocates.
    single, batched = [], []
    for _ in range(rounds):
        single.append([peer.embed([text])[2] for text in texts])
        batched.append(sum(peer.embed(part)[2] for part in batches))
    best = min(single, key=sum)
    return {
        "peer": f"onnxruntime {onnxruntime.__version__}",
        "threads": threads,
        "texts": len(texts),
        "pieces": sum(lengths),
        "single_texts_per_s": len(texts) / sum(best),
        "single_ms_p50": float(np.median(best)) * 1e3,
        "batch": batch,
        "batch_texts_per_s": len(texts) / min(batched),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--interactive", action="store_true")
    parser.add_argument("--vectors", action="store_true")
    arguments = parser.parse_args()
    if min(arguments.threads, arguments.batch, arguments.rounds) < 1:
        parser.error("--threads, --batch and --rounds must be at least 1")
    peer = Peer(arguments.model, arguments.threads, rest_between=arguments.interactive)
    if arguments.interactive:
        for line in sys.stdin:
            texts = json.loads(line)
            vectors, pieces, seconds, model_s = peer.embed(texts)
            answer = {
                "texts": len(texts),
                "pieces": pieces,
                "ms": seconds * 1e3,
                "model_ms": model_s * 1e3,
            }
            if arguments.vectors:
                answer["vectors"] = vectors.tolist()
            print(json.dumps(answer), flush=True)
        return
    texts = [json.loads(line) for line in sys.stdin if line.strip()]
    if not texts:
        parser.error("no text on stdin: expected one JSON string a line")
    result = measure(peer, texts, arguments.threads, arguments.batch, arguments.rounds)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
