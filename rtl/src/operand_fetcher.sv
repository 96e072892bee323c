// Keys or values of one head and sequence, from the activation memory into beats of the tile memory.
//
// A key word holds one head feature of TOKENS keys; a part of OUTPUTS keys is a weight vector as it is. Values are
// transposed: a vector is OUTPUTS features of one token, so OUTPUTS words are collected first.
module operand_fetcher #(
    parameter int unsigned TOKENS  = bertile_pkg::WordTokens,
    parameter int unsigned OUTPUTS = bertile_pkg::ArrayOutputs
) (
    input  logic                         clk,
    input  logic                         reset,
    input  logic                         start,  // while not busy; the command stands from the cycle before until `done`
    input  engine_pkg::load_command_t    command,
    input  logic [15:0]                  first,  // beat of the tile memory
    output logic                         busy,
    output logic                         done,

    output logic                         fetch_valid,
    output logic [15:0]                  fetch_address,
    input  logic                         fetch_ready,
    input  logic                         word_valid,
    input  logic [TOKENS-1:0][7:0]       word,

    output logic                         write,
    output logic [15:0]                  write_position,
    output logic [OUTPUTS*32-1:0]        write_data
);

  localparam int unsigned Inputs = bertile_pkg::ArrayInputs;
  localparam int unsigned Parts = TOKENS / OUTPUTS;  // key vectors of a word
  localparam int unsigned BlockBeats = TOKENS / Inputs;  // value vectors of OUTPUTS words, in beats
  localparam int unsigned RowBits = $clog2(OUTPUTS);
  // A word arrives at the earliest so long after its request; requests of a block of values may go out when the beats of
  // the block before leave no later.
  localparam int unsigned ReadLatency = 5;

  logic is_keys;
  logic [7:0] value_groups;  // beats of a value tile
  logic [4:0] key_groups;  // beats of a key tile
  logic [7:0] key_tiles;
  logic [4:0] last_row;
  logic [6:0] last_feature, last_tile;  // of a collection of words; first feature of the last tile of values
  always_ff @(posedge clk) begin
    is_keys <= command.mode == engine_pkg::MODE_SCORES;
    last_row <= 5'((32'(command.keys) - 1) / TOKENS);
    last_feature <= command.mode == engine_pkg::MODE_SCORES ? command.head_size - 1'b1 : 7'(OUTPUTS - 1);
    last_tile <= command.head_size - 7'(OUTPUTS);
    value_groups <= 8'((32'(command.keys) + Inputs - 1) / Inputs);
    key_groups <= 5'(command.head_size / Inputs);
    key_tiles <= 8'((32'(command.keys) + OUTPUTS - 1) / OUTPUTS);
  end

  // Requests: row block by row block; values also tile by tile.
  logic requesting, block_open;
  logic [4:0] request_row;
  logic [6:0] request_feature, tile_feature;
  logic [15:0] row_address;
  logic fetch_taken, block_end;  // of the words that one collection holds

  assign fetch_valid = requesting && (is_keys || block_open);
  assign fetch_taken = fetch_valid && fetch_ready;
  assign block_end = request_feature == last_feature;

  always_ff @(posedge clk) begin
    if (reset) begin
      requesting <= 1'b0;
    end else if (start) begin
      requesting <= 1'b1;
      request_row <= '0;
      request_feature <= '0;
      tile_feature <= '0;
      row_address <= command.weight;
      fetch_address <= command.weight;
    end else if (fetch_taken) begin
      fetch_address   <= fetch_address + 1'b1;
      request_feature <= request_feature + 1'b1;
      if (block_end) begin
        request_feature <= '0;
        request_row <= request_row + 1'b1;
        row_address <= row_address + command.weight_stride;
        fetch_address <= row_address + command.weight_stride;
        if (request_row == last_row) begin
          request_row <= '0;
          tile_feature <= tile_feature + 7'(OUTPUTS);
          row_address <= command.weight + 16'(tile_feature) + 16'(OUTPUTS);
          fetch_address <= command.weight + 16'(tile_feature) + 16'(OUTPUTS);
          requesting <= !is_keys && tile_feature != last_tile;
        end
      end
    end
  end

  // Arrivals: keys in groups of Inputs words, values in blocks of OUTPUTS words.
  logic [OUTPUTS-1:0][TOKENS-1:0][7:0] collected;
  logic [RowBits-1:0] arrival, key_group_row;
  logic key_group_ready, value_block_ready;

  always_ff @(posedge clk) begin
    key_group_ready <= word_valid && is_keys && arrival[1:0] == 2'd3;
    value_block_ready <= word_valid && !is_keys && arrival == RowBits'(OUTPUTS - 1);
    if (word_valid) begin
      collected[arrival] <= word;
      arrival <= arrival + 1'b1;
      key_group_row <= arrival & ~RowBits'(3);
    end
    if (start) arrival <= '0;
    if (reset) begin
      key_group_ready   <= 1'b0;
      value_block_ready <= 1'b0;
    end
  end

  // Beats out. Keys: `Parts` beats a group, a key tile apart. Values: in order, up to the last key of a tile.
  logic writing;
  logic [$clog2(BlockBeats)-1:0] step;
  logic [RowBits-1:0] out_row;
  logic [4:0] out_group;
  logic [7:0] out_tile;  // keys
  logic [15:0] position, part_position, row_position;
  logic [7:0] beats_left;  // of a value tile
  logic [6:0] out_feature;
  logic key_step_last, value_step_last, finished;

  assign key_step_last   = step == ($clog2(BlockBeats))'(Parts - 1);
  assign value_step_last = step == ($clog2(BlockBeats))'(BlockBeats - 1) || beats_left == 8'd1;

  always_ff @(posedge clk) begin
    write <= 1'b0;
    finished <= 1'b0;
    done <= finished;
    if (key_group_ready || value_block_ready) begin
      writing <= 1'b1;
      step <= '0;
      out_row <= key_group_row;
      part_position <= position;
    end
    if (writing) begin
      step <= step + 1'b1;
      if (is_keys) begin
        write <= out_tile + 8'(step) < key_tiles;
        part_position <= part_position + 16'(key_groups);
        if (key_step_last) begin
          writing <= 1'b0;
          position <= position + 1'b1;
          out_group <= out_group + 1'b1;
          if (out_group == key_groups - 1'b1) begin
            out_group <= '0;
            out_tile <= out_tile + 8'(Parts);
            position <= row_position + 16'(key_groups) * 16'(Parts);
            row_position <= row_position + 16'(key_groups) * 16'(Parts);
            finished <= out_tile + 8'(Parts) >= key_tiles;
          end
        end
      end else begin
        write <= 1'b1;
        position <= position + 1'b1;
        beats_left <= beats_left - 1'b1;
        if (value_step_last) begin
          writing <= 1'b0;
          if (beats_left == 8'd1) begin
            beats_left <= value_groups;
            out_feature <= out_feature + 7'(OUTPUTS);
            finished <= out_feature == last_tile;
          end
        end
      end
    end
    if (start) begin
      busy <= 1'b1;
      writing <= 1'b0;
      position <= first;
      row_position <= first;
      beats_left <= value_groups;
      out_group <= '0;
      out_tile <= '0;
      out_feature <= '0;
    end
    if (finished) busy <= 1'b0;
    if (reset) begin
      busy <= 1'b0;
      writing <= 1'b0;
      write <= 1'b0;
      finished <= 1'b0;
      done <= 1'b0;
    end
  end

  always_ff @(posedge clk) begin
    write_position <= is_keys ? part_position : position;
    for (int i = 0; i < Inputs; i++) begin
      for (int j = 0; j < OUTPUTS; j++) begin
        write_data[8*(OUTPUTS*i+j)+:8] <= is_keys ?
            collected[out_row|RowBits'(i)][OUTPUTS*(32'(step)%Parts)+j] :
            collected[j][Inputs*32'(step)+i];
      end
    end
  end

  // The requests of a block of values wait until the block before has nearly left.
  always_ff @(posedge clk) begin
    if (start) block_open <= 1'b1;
    else if (fetch_taken && block_end) block_open <= 1'b0;
    else if (writing && !is_keys && (32'(BlockBeats) - 32'(step) <= 32'(ReadLatency) || value_step_last)) begin
      block_open <= 1'b1;
    end
  end

endmodule
