// Reads a GGUF file with llama.cpp and continues texts, always with the likeliest token.
//
//   node greedy.mjs MODEL.gguf TOKENS [--lora ADAPTER.gguf] < texts, one JSON string a line
//
// Prints for each text one line of JSON: its token ids (with the first token that the model wants), the ids of the
// continuation up to the first one that ends a text, and the seconds that the continuation took.
import {getLlama, LlamaLogLevel} from "node-llama-cpp";
import {readFileSync} from "node:fs";

// On a busy machine its threads wait for each other by spinning: one is fastest there.
const threads = Number(process.env.ORIBI_LLAMA_CPP_THREADS ?? 1);
const [file, count, option, adapter] = process.argv.slice(2);
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: threads});
const model = await llama.loadModel({modelPath: file, gpuLayers: 0});
const lora = option === "--lora" ? {adapters: [{filePath: adapter, scale: 1}]} : undefined;
const context = await model.createContext({contextSize: Math.min(512, model.trainContextSize), threads, ...(lora && {lora})});
for (const line of readFileSync(0, "utf8").split("\n").filter(l => l !== "")) {
  const sequence = context.getSequence();
  const ids = model.tokenize(JSON.parse(line), true);
  if (model.tokens.shouldPrependBosToken && ids[0] !== model.tokens.bos) ids.unshift(model.tokens.bos);
  const continued = [];
  const begin = performance.now();
  for await (const token of sequence.evaluate(ids, {temperature: 0})) {
    if (model.isEogToken(token) || continued.length >= Number(count)) break;
    continued.push(token);
  }
  console.log(JSON.stringify({ids, continued, seconds: (performance.now() - begin) / 1000}));
  await sequence.dispose();
}
process.exit(0);
