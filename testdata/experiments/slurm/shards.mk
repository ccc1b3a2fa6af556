# A data set in N parts: each is encoded, inferred, decoded and scored by itself, and then all are joined.
#
# On one machine:   make -f shards.mk -j4 MODEL=base.safetensors CODE=code QUERIES=q.npy LABELS=l.npy OUT=out
# Over Slurm:       submit, which runs these rules in an array of tasks.
#
# What is done is not done again: a tool's output is there as a whole or not at all. One prediction of each
# group is lost, drawn with the part's number for a seed.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.SECONDARY:

N       ?= 8
THREADS ?= 1
OUT     ?= out

ifneq ($(words $(MODEL) $(CODE) $(QUERIES) $(LABELS)),4)
$(error expected MODEL=, CODE=, QUERIES= and LABELS=, found '$(MODEL)' '$(CODE)' '$(QUERIES)' '$(LABELS)')
endif

K := $(shell sed -n 's/.*"k": *\([0-9]*\).*/\1/p' $(CODE)/code.json)
PARTS := $(addprefix $(OUT)/,$(shell seq $(N)))

# All of it.
$(OUT)/score.json: $(OUT)/decoded.npy $(OUT)/available.npy $(OUT)/predictions.npy
	parm-score -k $(K) --labels $(LABELS) --reference $(OUT)/predictions.npy \
	  --available $(OUT)/available.npy --json $(OUT)/decoded.npy > $@.part
	mv $@.part $@

$(OUT)/%.npy: $(addsuffix /%.npy,$(PARTS))
	parm-data cat -o $@ $^

# One part.
$(OUT)/%/coded.npy: $(QUERIES)
	mkdir -p $(@D)
	parm-encode --code $(CODE) --shard $*/$(N) -o $@ $(QUERIES)

$(OUT)/%/parity.npy: $(OUT)/%/coded.npy
	parm-infer -m $(CODE)/parity-0.safetensors --threads $(THREADS) -o $@ $<

$(OUT)/%/predictions.npy: $(QUERIES)
	mkdir -p $(@D)
	parm-infer -m $(MODEL) --threads $(THREADS) --shard $*/$(N) --group $(K) -o $@ $(QUERIES)

$(OUT)/%/decoded.npy: $(OUT)/%/predictions.npy $(OUT)/%/parity.npy
	parm-decode --code $(CODE) --parity $(OUT)/$*/parity.npy --erase one --seed $* \
	  --erased-out $(OUT)/$*/available.npy -o $@ $<

$(OUT)/%/available.npy: $(OUT)/%/decoded.npy ;
