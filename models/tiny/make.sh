#!/usr/bin/env bash
# Makes everything in models/tiny again: tokenizer, instruction set, and the model, trained from scratch by Oribi.
#
#   models/tiny/make.sh          all of it; the training takes some 15 to 25 minutes on two cores
#   models/tiny/make.sh files    tokenizer and instruction set only, seconds; they come out the same to the byte
#
# Text and the training run stay under models/target/tiny, which git ignores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

tiny=models/tiny
work=models/target/tiny

mvn -q -pl models -am -DskipTests package
classpath="models/target/classes:java/target/classes:$(cat java/target/classpath)"
make_with() { java -cp "$classpath" "dev.oribi.models.tiny.$1" "${@:2}"; }

# Text and files: folder, megabytes, seed.
make_with StoryGenerator "$work/tokenizer-text" 4 1
make_with TokenizerFiles "$work/tokenizer-text/train.jsonl" "$tiny/model"
make_with InstructionGenerator "$tiny/instruct" 1
[[ "${1:-all}" == files ]] && exit

# Some 6 million tokens, each seen once. The rate is high, as small models like it.
make_with StoryGenerator "$work/text" 24 2
./oribi train \
  --model "$tiny/model" --from-scratch --dtype float32 \
  --data "$work/text/train.jsonl" --eval-data "$work/text/heldout.jsonl" \
  --max-seq-length 512 --packing --per-device-train-batch-size 4 --num-train-epochs 1 \
  --learning-rate 2e-3 --lr-scheduler-type cosine --warmup-steps 100 --weight-decay 0.1 --adam-beta2 0.99 \
  --save-steps 500 --save-total-limit 1 --logging-steps 50 --seed 1 \
  --output-dir "$work/run" --overwrite-output-dir

make_with StoreWeights "$work/run" "$tiny/model"
