// Times the tokens that llama.cpp generates, as `oribi bench decode` does: a prompt of 16, 64 that are not timed, then COUNT.
//
//   node decode.mjs MODEL.gguf COUNT
//
// ORIBI_LLAMA_CPP_THREADS: its threads, one without it.
import {getLlama, LlamaLogLevel} from "node-llama-cpp";

const WARM_UP = 64;
const threads = Number(process.env.ORIBI_LLAMA_CPP_THREADS ?? 1);
const [file, count] = process.argv.slice(2);
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: threads});
const model = await llama.loadModel({modelPath: file, gpuLayers: 0});
const context = await model.createContext({contextSize: Math.min(2048, model.trainContextSize), threads});
const ids = Array.from({length: 16}, (_, i) => 5 + 3 * i);
const times = [];
for await (const token of context.getSequence().evaluate(ids, {temperature: 0})) {
  times.push(performance.now());
  if (times.length > WARM_UP + Number(count)) break;
}
const each = times.slice(WARM_UP + 1).map((t, i) => t - times[WARM_UP + i]).sort((a, b) => a - b);
const at = share => each[Math.floor(share * each.length)].toFixed(2);
console.log(`${each.length} tokens: p20 ${at(0.2)}  p50 ${at(0.5)}  p80 ${at(0.8)} ms a token`);
process.exit(0);
