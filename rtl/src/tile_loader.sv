// Fills the tile memory ahead of the array, in the order of the commands: weight tiles from the tile stream, keys and
// values from the activation memory.
//
// The tile memory is a ring. Its entries are made in order; they are freed in order, too, although the array may leave a
// later one first (values of a short sequence before the keys of a long one).
module tile_loader #(
    parameter int unsigned TOKENS     = bertile_pkg::WordTokens,
    parameter int unsigned OUTPUTS    = bertile_pkg::ArrayOutputs,
    parameter int unsigned TILE_WORDS = bertile_pkg::CapacityTileMemoryBeats
) (
    input logic clk,
    input logic reset,
    input logic launch_reset,  // between launches; a beat that came early stays

    input engine_pkg::load_command_t command,
    input logic command_valid,
    output logic command_ready,
    input logic [31:0] received,  // words since the launch began

    input logic [OUTPUTS*32-1:0] beat,
    input logic beat_valid,
    output logic beat_ready,

    output logic fetch_valid,
    output logic [15:0] fetch_address,
    input logic fetch_ready,
    input logic word_valid,
    input logic [TOKENS-1:0][7:0] word,

    output logic parameter_write,
    output logic [engine_pkg::EntryBits:0] parameter_row,  // entry, half
    output logic [OUTPUTS*32-1:0] parameter_data,

    output logic write,
    output logic [$clog2(TILE_WORDS)-1:0] write_address,
    output logic [bertile_pkg::ArrayInputs-1:0][bertile_pkg::PacketIndexBits-1:0] write_index,
    output logic [OUTPUTS*32-1:0] write_data,

    output engine_pkg::entry_t entry,
    output logic entry_valid,
    input logic entry_ready,
    input logic [(1<<engine_pkg::EntryBits)-1:0] release_entries,  // one pulse each

    output logic packet_error
);

  localparam int unsigned Entries = 1 << engine_pkg::EntryBits;
  localparam int unsigned Inputs = bertile_pkg::ArrayInputs;
  localparam int unsigned Margin = 8;

  typedef enum logic [2:0] {IDLE, GROUPS, SIZE, AWAIT, ALLOCATE, LOAD} state_t;
  state_t state;
  engine_pkg::load_command_t now;
  logic [15:0] tiles_left, tail, freed, used, set_beats;
  logic weight_arrived, room, room_for_set, is_gemm;
  logic [engine_pkg::EntryBits-1:0] next, oldest;
  logic [engine_pkg::EntryBits:0] alive;

  assign is_gemm = now.mode == engine_pkg::MODE_GEMM;
  assign command_ready = state == IDLE;

  // Beats of all keys or values of the command: tiles x groups.
  logic [7:0] groups;
  logic [7:0] tiles_rest;  // the product takes a cycle for each of their bits
  logic [15:0] groups_shifted;
  assign groups = now.mode == engine_pkg::MODE_SCORES ? 8'(now.head_size / Inputs) :
      8'((32'(now.keys) + Inputs - 1) / Inputs);

  logic decoder_start, decoder_busy, decoder_done, decoder_half, decoder_parameter, decoder_write;
  logic [15:0] decoder_groups;
  logic [OUTPUTS*32-1:0] decoder_data, decoder_parameters;
  logic [Inputs-1:0][bertile_pkg::PacketIndexBits-1:0] decoder_index;
  logic fetcher_start, fetcher_busy, fetcher_done, fetcher_write;
  logic [15:0] fetcher_position, fetcher_first;
  logic [OUTPUTS*32-1:0] fetcher_data;

  engine_pkg::entry_t finished;
  logic push, push_ready;
  logic [15:0] entry_start;

  always_ff @(posedge clk) begin
    decoder_start <= 1'b0;
    fetcher_start <= 1'b0;
    push <= 1'b0;
    weight_arrived <= received >= now.await_weight;
    // Both lag behind `tail`, by as many beats as the margin allows.
    used <= tail - freed;
    room <= used < 16'(TILE_WORDS - Margin);
    room_for_set <= used + set_beats <= 16'(TILE_WORDS - Margin);
    if (decoder_write) tail <= tail + 1'b1;
    case (state)
      IDLE: begin
        now <= command;
        tiles_left <= command.tiles;
        if (command_valid) state <= command.mode == engine_pkg::MODE_GEMM ? ALLOCATE : GROUPS;
      end
      GROUPS: begin
        state <= SIZE;
        set_beats <= '0;
        tiles_rest <= 8'(now.tiles);
        groups_shifted <= 16'(groups);
      end
      SIZE: begin
        if (tiles_rest[0]) set_beats <= set_beats + groups_shifted;
        tiles_rest <= tiles_rest >> 1;
        groups_shifted <= groups_shifted << 1;
        if (tiles_rest == '0) state <= AWAIT;
      end
      AWAIT: if (weight_arrived) state <= ALLOCATE;
      ALLOCATE: begin
        entry_start <= tail;
        if (alive < (engine_pkg::EntryBits + 1)'(engine_pkg::EntriesAlive) && (is_gemm || room_for_set)) begin
          state <= LOAD;
          decoder_start <= is_gemm;
          fetcher_start <= !is_gemm;
          if (!is_gemm) tail <= tail + set_beats;
        end
      end
      default: begin
        if (is_gemm ? decoder_done : fetcher_done) begin
          push <= 1'b1;
          tiles_left <= tiles_left - 1'b1;
          state <= is_gemm && tiles_left != 16'd1 ? ALLOCATE : IDLE;
        end
      end
    endcase
    finished.entry <= next;
    finished.start <= entry_start;
    finished.groups <= is_gemm ? decoder_groups : set_beats;
    if (launch_reset) begin
      state <= IDLE;
      tail <= '0;
      push <= 1'b0;
      decoder_start <= 1'b0;
      fetcher_start <= 1'b0;
    end
  end
  assign fetcher_first = entry_start;

  // Life of the entries. An entry counts from its first beat.
  logic [Entries-1:0] released;
  logic [15:0] ends[Entries];
  logic begins, ends_now, frees;
  assign begins = decoder_start || fetcher_start;
  assign frees = alive != '0 && released[oldest];
  assign ends_now = push;

  always_ff @(posedge clk) begin
    if (ends_now) ends[finished.entry] <= tail;
    released <= released | release_entries;
    if (frees) begin
      released[oldest] <= 1'b0;
      freed <= ends[oldest];
      oldest <= oldest + 1'b1;
    end
    if (ends_now) next <= next + 1'b1;
    alive <= alive + (engine_pkg::EntryBits + 1)'(begins) - (engine_pkg::EntryBits + 1)'(frees);
    if (launch_reset) begin
      released <= '0;
      freed <= '0;
      oldest <= '0;
      next <= '0;
      alive <= '0;
    end
  end

  tile_decoder #(
      .OUTPUTS(OUTPUTS)
  ) decoder (
      .clk,
      .reset,
      .start(decoder_start),
      .busy(decoder_busy),
      .done(decoder_done),
      .groups(decoder_groups),
      .beat,
      .beat_valid,
      .beat_ready,
      .parameter_write(decoder_parameter),
      .parameter_half(decoder_half),
      .parameter_data(decoder_parameters),
      .room,
      .weight_write(decoder_write),
      .weight_index(decoder_index),
      .weight_data(decoder_data),
      .packet_error
  );

  operand_fetcher #(
      .TOKENS (TOKENS),
      .OUTPUTS(OUTPUTS)
  ) fetcher (
      .clk,
      .reset(launch_reset),
      .start(fetcher_start),
      .command(now),
      .first(fetcher_first),
      .busy(fetcher_busy),
      .done(fetcher_done),
      .fetch_valid,
      .fetch_address,
      .fetch_ready,
      .word_valid,
      .word,
      .write(fetcher_write),
      .write_position(fetcher_position),
      .write_data(fetcher_data)
  );

  always_ff @(posedge clk) begin
    parameter_write <= decoder_parameter && !launch_reset;
    parameter_row <= {next, decoder_half};
    parameter_data <= decoder_parameters;
    write <= (decoder_write || fetcher_write) && !launch_reset;
    write_address <= ($clog2(TILE_WORDS))'(is_gemm ? tail : fetcher_position);
    write_index <= decoder_index;
    write_data <= is_gemm ? decoder_data : fetcher_data;
  end

  sync_fifo #(
      .WIDTH($bits(entry)),
      .DEPTH(Entries)
  ) directory (
      .clk,
      .reset(launch_reset),
      .in_data(finished),
      .in_valid(push),
      .in_ready(push_ready),
      .out_data(entry),
      .out_valid(entry_valid),
      .out_ready(entry_ready)
  );

`ifndef SYNTHESIS
  always_ff @(posedge clk) begin
    if (!launch_reset) begin
      assert (tail - freed <= 16'(TILE_WORDS)) else $error("tile_loader: the tile memory overflowed");
      assert (!(push && !push_ready)) else $error("tile_loader: the directory overflowed");
      assert (!(decoder_write && fetcher_write)) else $error("tile_loader: two writers");
      assert (!(decoder_start && decoder_busy) && !(fetcher_start && fetcher_busy))
      else $error("tile_loader: started while busy");
    end
  end
`endif

endmodule
