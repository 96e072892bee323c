// Generated from spec/accelerator.toml by `make spec`; do not edit.

package bertile_pkg;

  localparam logic [63:0] SpecDigest = 64'hDB6267D17D9AA84F;
  localparam int unsigned ContractVersion = 1;
  localparam int unsigned ContractProgramMagic = 1162630210;
  localparam int unsigned WordTokens = 32;
  localparam int unsigned ArrayOutputs = 16;
  localparam int unsigned ArrayInputs = 4;
  localparam int unsigned ArrayFieldBits = 18;
  localparam int unsigned PacketBeatBytes = 64;
  localparam int unsigned PacketVectors = 32;
  localparam int unsigned PacketVectorsPerBeat = 4;
  localparam int unsigned PacketIndexBits = 12;
  localparam int unsigned PacketValidBit = 14;
  localparam int unsigned PacketLastBit = 15;
  localparam int unsigned TileParameterBeats = 2;
  localparam int unsigned CapacityHidden = 1024;
  localparam int unsigned CapacityFfn = 4096;
  localparam int unsigned CapacityTokens = 512;
  localparam int unsigned CapacitySequences = 16;
  localparam int unsigned CapacityHeadSizes = 64;
  localparam int unsigned CapacityActivationBanks = 12;
  localparam int unsigned CapacityActivationBankWords = 4096;
  localparam int unsigned CapacityTileBeats = 1024;
  localparam int unsigned CapacityTileMemoryBeats = 4096;
  localparam int unsigned CapacityProbabilitySlots = 3;
  localparam int unsigned StreamCommands = 16;
  localparam int unsigned StreamTiles = 64;
  localparam int unsigned StreamWords = 2048;
  localparam int unsigned StreamResults = 64;
  localparam int unsigned StreamWordsFrom = 2048;
  localparam int unsigned StreamMomentsFrom = 128;
  localparam int unsigned CooperationUnits = 3;
  localparam int unsigned CooperationMomentBeats = 6;
  localparam int unsigned LawMultiplierBits = 16;
  localparam int unsigned LawShiftMax = 47;
  localparam int unsigned LawScoreFractionBits = 8;
  localparam int unsigned LawExponentialBits = 16;
  localparam int unsigned LawProbabilityMax = 255;
  localparam int unsigned LawRowScaleBits = 16;
  localparam int unsigned LawGeluIndexBits = 10;
  localparam int unsigned LawNormFractionBits = 10;
  localparam int unsigned LawRsqrtBits = 32;
  localparam int unsigned CapacityRowBlocks = 16;
  localparam int unsigned CapacityActivationWords = 49152;

  localparam int unsigned OpcodeEnd = 0;
  localparam int unsigned OpcodeTables = 1;
  localparam int unsigned OpcodeLoad = 2;
  localparam int unsigned OpcodeGemm = 3;
  localparam int unsigned OpcodeAttention = 4;
  localparam int unsigned OpcodeJoin = 5;
  localparam int unsigned PostNone = 0;
  localparam int unsigned PostActivation = 1;
  localparam int unsigned PostLayernorm = 2;
  localparam int unsigned EngineOpcodeHalt = 0;
  localparam int unsigned EngineOpcodeGemm = 1;
  localparam int unsigned EngineOpcodeScores = 2;
  localparam int unsigned EngineOpcodeContext = 3;
  localparam int unsigned WordKindActivation = 0;
  localparam int unsigned WordKindRowScale = 1;
  localparam int unsigned FlagUnsignedSource = 0;
  localparam int unsigned FlagReload = 1;
  localparam int unsigned FlagStore = 2;
  localparam int unsigned FlagTrace = 3;
  localparam int unsigned FlagShare = 4;
  localparam int unsigned LaunchFlagTrace = 0;
  localparam int unsigned LaunchFlagCooperative = 1;
  localparam int unsigned ErrorNone = 0;
  localparam int unsigned ErrorDigest = 1;
  localparam int unsigned ErrorOpcode = 2;
  localparam int unsigned ErrorLaunch = 3;
  localparam int unsigned ErrorEngine = 4;
  localparam int unsigned ErrorPeer = 5;
  localparam int unsigned ErrorRunning = 6;
  localparam int unsigned EngineErrorNone = 0;
  localparam int unsigned EngineErrorOpcode = 1;
  localparam int unsigned EngineErrorShape = 2;
  localparam int unsigned EngineErrorIndex = 3;
  localparam int unsigned EngineErrorAddress = 4;
  localparam int unsigned EngineErrorPacket = 5;
  localparam int unsigned EngineErrorWord = 6;

  typedef struct packed {
    logic [79:0] reserved_54;
    logic [15:0] features_before;  // load, gemm: features of other units in front of the target, in its row
    logic [15:0] peer_tiles_1;  // join: tiles that peer 1 has shared of these row blocks
    logic [15:0] peer_tiles_0;  // join: tiles that peer 0 has shared of these row blocks
    logic [31:0] context_numerator;  // attention: numerator of the row scale
    logic [7:0] context_shift;  // attention: requantization of the context
    logic [7:0] score_shift;  // attention: requantization of the scores
    logic [15:0] score_multiplier;  // attention: requantization of the scores
    logic [31:0] parameter_beats;  // beats of these parameters; layernorm: of this unit's features, without header
    logic [31:0] parameter_offset;  // first beat of table or LayerNorm parameters in the parameter image
    logic [31:0] tile_beats;  // gemm: beats of its tiles
    logic [31:0] tile_offset;  // gemm: first beat of its tiles in the weight image
    logic [15:0] tiles;  // gemm, load: output tiles (of 16 features)
    logic [15:0] probability;  // attention: address of the softmax output slots
    logic [15:0] value;  // attention: address of the values
    logic [15:0] key;  // attention: address of the keys
    logic [15:0] target_stride;  // words of a row block at the target
    logic [15:0] target;  // activation memory address of the result
    logic [15:0] source_stride;  // words of a row block at the source (attention: of queries, keys and values)
    logic [15:0] source;  // activation memory address of the source (attention: queries)
    logic [15:0] trace_slot;  // layernorm: index of its output in a traced run
    logic [7:0] row_count;  // row blocks at most; clipped to the launch, skipped when none is left
    logic [7:0] row_first;  // first row block
    logic [7:0] head_size;  // attention: features of the head
    logic [7:0] flags;  // bits of `flag`
    logic [7:0] post;  // vector stage behind a gemm
    logic [7:0] opcode;  // opcode
  } descriptor_t;

  typedef struct packed {
    logic [159:0] reserved_44;
    logic [31:0] await_peer_1;  // the same from peer 1
    logic [31:0] await_peer_0;  // words the engine must have received from peer 0 since the launch began
    logic [31:0] await_weight;  // scores, context: words the engine must have received before it fetches keys or values
    logic [15:0] reserved_30;
    logic signed [15:0] limit_high;  // saturation of the results
    logic signed [15:0] limit_low;  // saturation of the results
    logic [15:0] row_scale_slot;  // context: slot of the row scales
    logic [15:0] multiplier;  // scores: multiplier
    logic [7:0] shift;  // scores, context: rounding shift
    logic [7:0] head_size;  // scores, context: features of the head
    logic [15:0] keys;  // scores, context: tokens of the sequence
    logic [15:0] tiles;  // output tiles
    logic [15:0] weight_stride;  // words of a row block there
    logic [15:0] weight;  // scores, context: address of keys or values of the sequence's first row block
    logic [15:0] source_stride;  // words of a row block there
    logic [15:0] source;  // address of row block 0 of the array's token operand
    logic [31:0] await_words;  // words the engine must have received since the launch began before it starts
    logic [7:0] row_count;  // row blocks
    logic [7:0] row_first;  // first row block
    logic [7:0] flags;  // bits of `flag`
    logic [7:0] opcode;  // engine_opcode
  } command_t;

  typedef struct packed {
    logic [231:0] reserved_35;
    logic [7:0] kind;  // word_kind
    logic [15:0] address;  // activation: address; row scale: 2 x slot + half. Bytes 0..31 are the lanes
    logic [255:0] reserved_0;
  } engine_word_t;

  typedef struct packed {
    logic [319:0] reserved_24;
    logic [63:0] cycles;  // clock cycles from the first command to halt; 0: not counted
    logic [31:0] reserved_12;
    logic [31:0] error;  // engine_error, the first of the launch
    logic [63:0] spec_digest;  // of the engine
  } engine_status_t;

  typedef struct packed {
    logic [7:0] reserved_7;
    logic [7:0] shift;  // requantization
    logic [15:0] multiplier;  // requantization
    logic signed [31:0] bias;  // added to the accumulator
  } tile_parameter_t;

  typedef struct packed {
    logic [415:0] reserved_12;
    logic [7:0] output_shift;  // rounding shift of the output
    logic [7:0] residual_shift;  // rounding shift of the residual
    logic [15:0] features;  // hidden size
    logic signed [63:0] epsilon;  // added to the scaled variance, at least 1
  } layernorm_header_t;

  typedef struct packed {
    logic [15:0] residual_multiplier;  // scale of the residual over the scale of the sum
    logic signed [15:0] gain;  // multiplies the normalized value
    logic signed [31:0] offset;  // added before the output shift
  } layernorm_feature_t;

  typedef struct packed {
    logic [303:0] reserved_26;
    logic [15:0] sequences;  // entries that follow
    logic [15:0] row_blocks;  // of all sequences
    logic [15:0] hidden;  // words of a row block of input and output: this unit's features
    logic [31:0] program_offset;  // first descriptor, in beats of the program image
    logic [63:0] spec_digest;  // first eight bytes of the spec digest
    logic [31:0] flags;  // bits of `launch_flag`
    logic [31:0] magic;  // program_magic
  } launch_t;

  typedef struct packed {
    logic [15:0] tokens;  // its length
    logic [15:0] row_first;  // first row block of the sequence
  } launch_sequence_t;

  typedef struct packed {
    logic [255:0] reserved_32;
    logic [63:0] engine_cycles;  // clock cycles of the engine from the first command to halt; 0: not counted
    logic [31:0] reserved_20;
    logic [31:0] engine_error;  // engine_error, the first of the launch
    logic [31:0] descriptors;  // descriptors executed
    logic [31:0] error;  // error
    logic [63:0] spec_digest;  // of the kernel
  } status_t;

endpackage
