"""Makes the Parquet files of this folder with pyarrow: pip install pyarrow==25.0.1; python make_parquet.py"""
import pyarrow as pa
import pyarrow.parquet as pq

message = pa.struct([("role", pa.string()), ("content", pa.string())])
chats = pa.table({
    "id": pa.array(range(40), pa.int64()),
    "messages": pa.array([[{"role": "user", "content": f"What is {i} + {i}? é🙂"}, {"role": "assistant", "content": f"It is {2 * i}."}]
                          for i in range(40)], pa.list_(message)),
    "source": pa.array(["hand", None] * 20).dictionary_encode(),
    "score": pa.array([i / 4 for i in range(40)], pa.float64()),
})
for codec in ["none", "snappy", "gzip", "zstd", "lz4"]:
    pq.write_table(chats, f"chats-{codec}.parquet", compression=codec, row_group_size=16, data_page_version="2.0" if codec == "zstd" else "1.0",
                   write_page_checksum=codec == "snappy")
pq.write_table(chats, "chats-brotli.parquet", compression="brotli")
pq.write_table(pa.table({
    "input_ids": pa.array([[1, 2, 3], [4, 5], [6, 7, 8, 9]], pa.list_(pa.int64())),
    "labels": pa.array([[-100, 2, 3], None, [-100, -100, 8, 9]], pa.list_(pa.int32())),
}), "ids.parquet", compression="zstd")
pq.write_table(pa.table({
    "question": ["a", "b"], "answer": ["c", "d"], "flags": pa.array([[("x", 1)], []], pa.map_(pa.string(), pa.int32())),
    "time": pa.array([0, 1], pa.timestamp("ms")), "ok": [True, None],
}), "questions.parquet")
