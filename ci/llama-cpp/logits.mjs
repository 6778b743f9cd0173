// Runs GGUF files in llama.cpp: the tokens of texts, what follows them greedily, and the logits at every position.
//
//   node logits.mjs < jobs, one JSON object a line
//
//   model   the file
//   lora    an adapter file, or null
//   texts   what to read
//   tokens  how many to continue with
//   logits  a file to write: float32, little-endian, [positions of all texts, one text after the other, V]; null: none
//
// Prints for each job one line of JSON: {"vocabulary": V, or 0 without logits, "texts": [{"ids", "continued"}]}. Keys and values are kept in
// float32, so that what differs is arithmetic and not the cache.
import {getLlama, LlamaLogLevel} from "node-llama-cpp";
import {readFileSync, writeFileSync} from "node:fs";

const threads = Number(process.env.ORIBI_LLAMA_CPP_THREADS ?? 1); // more wait for each other by spinning
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: threads});

function tokens(model, text) {
  const ids = model.tokenize(text, true);
  if (model.tokens.shouldPrependBosToken && ids[0] !== model.tokens.bos) ids.unshift(model.tokens.bos);
  return ids;
}

async function logits(context, ids, rows) {
  const sequence = context.getSequence();
  const asked = await sequence.controlledEvaluate(ids.map(id => [id, {generateNext: {logits: true, options: {temperature: 0}}}]));
  for (const {next} of asked) {
    const row = new Float32Array(next.logits.size);
    for (const [id, value] of next.logits) row[id] = value;
    rows.push(Buffer.from(row.buffer));
  }
  await sequence.dispose();
}

async function greedy(context, model, ids, count) {
  const sequence = context.getSequence();
  const continued = [];
  for await (const token of sequence.evaluate(ids, {temperature: 0, yieldEogToken: true})) {
    if (continued.length >= count || model.isEogToken(token)) break;
    continued.push(token);
  }
  await sequence.dispose();
  return continued;
}

for (const line of readFileSync(0, "utf8").split("\n").filter(l => l !== "")) {
  const job = JSON.parse(line);
  const model = await llama.loadModel({modelPath: job.model, gpuLayers: 0});
  const lora = job.lora ? {lora: {adapters: [{filePath: job.lora, scale: 1}]}} : {};
  const context = await model.createContext({contextSize: Math.min(512, model.trainContextSize), threads, flashAttention: false,
    experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32", ...lora});
  const rows = [];
  const texts = [];
  for (const text of job.texts) {
    const ids = tokens(model, text);
    if (job.logits) await logits(context, ids, rows);
    texts.push({ids, continued: job.tokens > 0 ? await greedy(context, model, ids, job.tokens) : []});
  }
  if (job.logits) writeFileSync(job.logits, Buffer.concat(rows));
  console.log(JSON.stringify({vocabulary: rows.length > 0 ? rows[0].length / 4 : 0, texts}));
  await context.dispose();
  await model.dispose();
}
process.exit(0);
