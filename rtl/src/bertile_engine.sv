// The block-sparse GEMM engine of one compute unit (docs/architecture.md, The engine in RTL): AXI4-Streams only, free
// running. The contract is that of the HLS engine; both give the same bits.
module bertile_engine #(
    parameter int unsigned TOKENS     = bertile_pkg::WordTokens,
    parameter int unsigned OUTPUTS    = bertile_pkg::ArrayOutputs,
    parameter int unsigned BANK_WORDS = bertile_pkg::CapacityActivationBankWords,
    parameter int unsigned TILE_WORDS = bertile_pkg::CapacityTileMemoryBeats
) (
    input logic ap_clk,
    input logic ap_rst_n,

    input  logic [511:0] commands_tdata,
    input  logic         commands_tvalid,
    output logic         commands_tready,

    input  logic [OUTPUTS*32-1:0] tiles_tdata,
    input  logic                  tiles_tvalid,
    output logic                  tiles_tready,

    input  logic [TOKENS*16-1:0] words_tdata,
    input  logic                 words_tvalid,
    output logic                 words_tready,

    input  logic [TOKENS*16-1:0] words_from_0_tdata,
    input  logic                 words_from_0_tvalid,
    output logic                 words_from_0_tready,

    input  logic [TOKENS*16-1:0] words_from_1_tdata,
    input  logic                 words_from_1_tvalid,
    output logic                 words_from_1_tready,

    output logic [TOKENS*16-1:0] results_tdata,
    output logic                 results_tvalid,
    input  logic                 results_tready
);

  localparam int unsigned Inputs = bertile_pkg::ArrayInputs;
  localparam int unsigned Streams = engine_pkg::WordStreams;
  localparam int unsigned WordBits = TOKENS * 8 + engine_pkg::WordTagBits;
  localparam int unsigned Results = bertile_pkg::StreamResults;

  // Shapes that the modules are not made for stop elaboration.
  if (OUTPUTS != 8 && OUTPUTS != 16) begin : g_outputs
    $error("OUTPUTS must be 8 or 16");
  end
  if (TOKENS != OUTPUTS && TOKENS != 2 * OUTPUTS) begin : g_tokens
    $error("TOKENS must be OUTPUTS or twice as many");
  end
  if (BANK_WORDS < 16 || BANK_WORDS > 4096 || (BANK_WORDS & (BANK_WORDS - 1)) != 0) begin : g_bank_words
    $error("BANK_WORDS must be a power of two from 16 to 4096");
  end
  if (TILE_WORDS < 4 * bertile_pkg::CapacityTileBeats || TILE_WORDS > 32768 || (TILE_WORDS & (TILE_WORDS - 1)) != 0)
  begin : g_tile_words
    $error("TILE_WORDS must be a power of two up to 32768 and hold four of the longest tiles");
  end
  if (Streams != bertile_pkg::CooperationUnits) begin : g_streams
    $error("a stream of words for each unit that cooperates");
  end

  logic reset, launch_reset, launch_end;
  always_ff @(posedge ap_clk) begin
    reset <= !ap_rst_n;
    launch_reset <= !ap_rst_n || launch_end;
  end

  // Streams behind register slices.
  logic [511:0] command_data;
  logic [OUTPUTS*32-1:0] beat;
  logic [TOKENS*16-1:0] result_data;
  logic command_valid, command_ready, beat_valid, beat_ready, result_valid, result_ready;
  axis_register #(
      .WIDTH(512)
  ) command_slice (
      .clk(ap_clk),
      .reset,
      .in_data(commands_tdata),
      .in_valid(commands_tvalid),
      .in_ready(commands_tready),
      .out_data(command_data),
      .out_valid(command_valid),
      .out_ready(command_ready)
  );
  axis_register #(
      .WIDTH(OUTPUTS * 32)
  ) tile_slice (
      .clk(ap_clk),
      .reset,
      .in_data(tiles_tdata),
      .in_valid(tiles_tvalid),
      .in_ready(tiles_tready),
      .out_data(beat),
      .out_valid(beat_valid),
      .out_ready(beat_ready)
  );
  axis_register #(
      .WIDTH(TOKENS * 16)
  ) result_slice (
      .clk(ap_clk),
      .reset,
      .in_data(result_data),
      .in_valid(result_valid),
      .in_ready(result_ready),
      .out_data(results_tdata),
      .out_valid(results_tvalid),
      .out_ready(results_tready)
  );

  // Commands to the loader and to the pass generator.
  engine_pkg::load_command_t dispatched_load, load;
  engine_pkg::execute_command_t dispatched_execute, execute;
  logic dispatched_load_valid, dispatched_load_ready, load_valid, load_ready;
  logic dispatched_execute_valid, dispatched_execute_ready, execute_valid, execute_ready;
  logic launched, opcode_error, shape_error;
  dispatcher #(
      .OUTPUTS(OUTPUTS)
  ) dispatch (
      .clk(ap_clk),
      .reset,
      .command(command_data),
      .command_valid,
      .command_ready,
      .launch_end,
      .launched,
      .load(dispatched_load),
      .load_valid(dispatched_load_valid),
      .load_ready(dispatched_load_ready),
      .execute(dispatched_execute),
      .execute_valid(dispatched_execute_valid),
      .execute_ready(dispatched_execute_ready),
      .opcode_error,
      .shape_error
  );
  sync_fifo #(
      .WIDTH($bits(load)),
      .DEPTH(16)
  ) load_queue (
      .clk(ap_clk),
      .reset,
      .in_data(dispatched_load),
      .in_valid(dispatched_load_valid),
      .in_ready(dispatched_load_ready),
      .out_data(load),
      .out_valid(load_valid),
      .out_ready(load_ready)
  );
  sync_fifo #(
      .WIDTH($bits(execute)),
      .DEPTH(16)
  ) execute_queue (
      .clk(ap_clk),
      .reset,
      .in_data(dispatched_execute),
      .in_valid(dispatched_execute_valid),
      .in_ready(dispatched_execute_ready),
      .out_data(execute),
      .out_valid(execute_valid),
      .out_ready(execute_ready)
  );

  // Words in: stream 0 from the encoder, the others from the peers.
  logic [Streams-1:0][WordBits-1:0] port_word, word;
  logic [Streams-1:0] port_valid, port_ready, word_valid, word_ready;
  logic [Streams-1:0][31:0] received;
  logic [Streams-1:0][engine_pkg::Columns-1:0] write_columns;
  logic [Streams-1:0][bertile_pkg::CapacityActivationBanks-1:0] write_banks;
  logic [Streams-1:0][$clog2(BANK_WORDS)-1:0] write_row;
  logic [Streams-1:0][TOKENS-1:0][7:0] write_data;
  logic [Streams-1:0] write_valid, write_grant, hold, word_error, scale_write;
  logic [Streams-1:0][2:0] scale_row;
  assign port_word = {words_from_1_tdata[WordBits-1:0], words_from_0_tdata[WordBits-1:0], words_tdata[WordBits-1:0]};
  assign port_valid = {words_from_1_tvalid, words_from_0_tvalid, words_tvalid};
  assign {words_from_1_tready, words_from_0_tready, words_tready} = port_ready;
  for (genvar s = 0; s < Streams; s++) begin : g_words
    axis_register #(
        .WIDTH(WordBits)
    ) slice (
        .clk(ap_clk),
        .reset,
        .in_data(port_word[s]),
        .in_valid(port_valid[s]),
        .in_ready(port_ready[s]),
        .out_data(word[s]),
        .out_valid(word_valid[s]),
        .out_ready(word_ready[s])
    );
    word_intake #(
        .TOKENS(TOKENS),
        .BANK_WORDS(BANK_WORDS),
        .ROW_SCALES(s == 0)
    ) intake (
        .clk(ap_clk),
        .reset,
        .launch_reset,
        .word(word[s]),
        .word_valid(word_valid[s]),
        .word_ready(word_ready[s]),
        .write_valid(write_valid[s]),
        .write_columns(write_columns[s]),
        .write_banks(write_banks[s]),
        .write_row(write_row[s]),
        .write_data(write_data[s]),
        .write_grant(write_grant[s]),
        .hold(hold[s]),
        .scale_write(scale_write[s]),
        .scale_row(scale_row[s]),
        .received(received[s]),
        .word_error(word_error[s])
    );
  end

  // Tiles, keys and values into the tile memory. Keys and values come from the encoder only.
  logic fetch_valid, fetch_ready, fetch_data_valid;
  logic [15:0] fetch_address;
  logic [TOKENS-1:0][7:0] fetch_data;
  engine_pkg::entry_t entry;
  logic entry_valid, entry_ready, packet_error, parameter_write, tile_write;
  logic [(1<<engine_pkg::EntryBits)-1:0] release_entries;
  logic [engine_pkg::EntryBits:0] parameter_row;
  logic [OUTPUTS*32-1:0] parameter_data, tile_data, weights;
  logic [$clog2(TILE_WORDS)-1:0] tile_write_address, tile_address;
  logic [Inputs-1:0][bertile_pkg::PacketIndexBits-1:0] tile_index, index;
  tile_loader #(
      .TOKENS(TOKENS),
      .OUTPUTS(OUTPUTS),
      .TILE_WORDS(TILE_WORDS)
  ) loader (
      .clk(ap_clk),
      .reset,
      .launch_reset,
      .command(load),
      .command_valid(load_valid),
      .command_ready(load_ready),
      .received(received[0]),
      .beat,
      .beat_valid,
      .beat_ready,
      .fetch_valid,
      .fetch_address,
      .fetch_ready,
      .word_valid(fetch_data_valid),
      .word(fetch_data),
      .parameter_write,
      .parameter_row,
      .parameter_data,
      .write(tile_write),
      .write_address(tile_write_address),
      .write_index(tile_index),
      .write_data(tile_data),
      .entry,
      .entry_valid,
      .entry_ready,
      .release_entries,
      .packet_error
  );
  tile_memory #(
      .WIDTH(Inputs * bertile_pkg::PacketIndexBits + OUTPUTS * 32),
      .WORDS(TILE_WORDS)
  ) tiles (
      .clk(ap_clk),
      .write_enable(tile_write),
      .write_address(tile_write_address),
      .write_data({tile_index, tile_data}),
      .read_address(tile_address),
      .read_data({index, weights})
  );

  // Passes, then the cycles of each.
  engine_pkg::pass_t generated, pass;
  logic generated_valid, generated_ready, pass_valid, pass_ready, halting, idle, result_left;
  engine_pkg::cycle_t issued;
  engine_pkg::requantize_t requantize;
  logic requantize_valid;
  pass_generator generator (
      .clk(ap_clk),
      .reset(launch_reset),
      .command(execute),
      .command_valid(execute_valid),
      .command_ready(execute_ready),
      .received,
      .entry,
      .entry_valid,
      .entry_ready,
      .pass(generated),
      .pass_valid(generated_valid),
      .pass_ready(generated_ready),
      .halting
  );
  sync_fifo #(
      .WIDTH($bits(pass)),
      .DEPTH(4)
  ) pass_queue (
      .clk(ap_clk),
      .reset,
      .in_data(generated),
      .in_valid(generated_valid),
      .in_ready(generated_ready),
      .out_data(pass),
      .out_valid(pass_valid),
      .out_ready(pass_ready)
  );
  pass_issuer #(
      .OUTPUTS(OUTPUTS),
      .TILE_WORDS(TILE_WORDS),
      .RESULTS(Results)
  ) issuer (
      .clk(ap_clk),
      .reset,
      .pass,
      .pass_valid,
      .pass_ready,
      .release_entries,
      .hold(hold != '0),
      .result_left,
      .idle,
      .cycle(issued),
      .tile_address,
      .requantize,
      .requantize_valid
  );

  // Operands for the array, and room for words and fetches between.
  engine_pkg::cycle_t operated;
  logic [Inputs-1:0][TOKENS-1:0][7:0] operands;
  logic [OUTPUTS*32-1:0] operand_weights;
  logic index_error, address_error;
  operand_reader #(
      .TOKENS(TOKENS),
      .OUTPUTS(OUTPUTS),
      .BANK_WORDS(BANK_WORDS)
  ) reader (
      .clk(ap_clk),
      .reset,
      .issued,
      .index,
      .weights,
      .operated,
      .operands,
      .operand_weights,
      .write_valid,
      .write_columns,
      .write_banks,
      .write_row,
      .write_data,
      .write_grant,
      .fetch_valid,
      .fetch_address,
      .fetch_ready,
      .fetch_data,
      .fetch_data_valid,
      .index_error,
      .address_error
  );

  // The array, and the way out.
  logic done, drained_valid, status_valid, unused_ready;
  logic [$clog2(OUTPUTS)-1:0] select;
  logic [TOKENS-1:0][engine_pkg::AccumulatorBits-1:0] sums;
  logic [TOKENS-1:0][15:0] drained;
  mac_array #(
      .TOKENS (TOKENS),
      .OUTPUTS(OUTPUTS)
  ) array (
      .clk(ap_clk),
      .reset,
      .operands,
      .weights(operand_weights),
      .control(operated),
      .done,
      .select,
      .selected(sums)
  );
  requantizer #(
      .TOKENS (TOKENS),
      .OUTPUTS(OUTPUTS)
  ) drain (
      .clk(ap_clk),
      .reset,
      .pass(requantize),
      .pass_valid(requantize_valid),
      .done,
      .select,
      .sums,
      .parameter_write,
      .parameter_row,
      .parameter_data,
      .scale_write(scale_write[0]),
      .scale_row(scale_row[0]),
      .scale_data(write_data[0]),
      .result_valid(drained_valid),
      .result(drained)
  );

  engine_pkg::error_events_t events;
  bertile_pkg::engine_status_t status;
  always_comb begin
    events.opcode = opcode_error;
    events.shape = shape_error;
    events.index = index_error;
    events.address = address_error;
    events.packet = packet_error;
    events.word = word_error != '0;
  end
  launch_status launch (
      .clk(ap_clk),
      .reset,
      .launched,
      .halting,
      .idle,
      .events,
      .launch_end,
      .status_valid,
      .status
  );

  sync_fifo #(
      .WIDTH(TOKENS * 16),
      .DEPTH(Results)
  ) results (
      .clk(ap_clk),
      .reset,
      .in_data(status_valid ? (TOKENS * 16)'(status) : drained),
      .in_valid(status_valid || drained_valid),
      .in_ready(unused_ready),
      .out_data(result_data),
      .out_valid(result_valid),
      .out_ready(result_ready)
  );
  logic status_under_way;  // it came without a credit and gives none back
  always_ff @(posedge ap_clk) begin
    if (reset) status_under_way <= 1'b0;
    else if (status_valid) status_under_way <= 1'b1;
    else if (result_valid && result_ready) status_under_way <= 1'b0;
  end
  assign result_left = result_valid && result_ready && !status_under_way;

`ifndef SYNTHESIS
  always_ff @(posedge ap_clk) begin
    if (!reset) begin
      assert (!((status_valid || drained_valid) && !unused_ready)) else $error("bertile_engine: the result FIFO overflowed");
      assert (!(status_valid && drained_valid)) else $error("bertile_engine: a result behind the status");
    end
  end
`endif

endmodule
